#include "tools/bench/vram_replay.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace mesh::bench {
namespace {

double seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }

}  // namespace

double VramOutcome::wait_s(double share) const {
  if (waits_s.empty()) return 0;
  return waits_s[std::min(waits_s.size() - 1, static_cast<size_t>(share * static_cast<double>(waits_s.size())))];
}

VramReplay::VramReplay(const VramTrace& trace, const VramTerms& terms)
    : trace_(trace), terms_(terms), places_(terms.cards.size() * trace.models.size()), held_(terms.cards.size()) {
  outcome_.held_max.resize(terms.cards.size());
  for (size_t i = 0; i < places_.size(); ++i) {
    places_[i].host = i / trace.models.size();
    places_[i].model = i % trace.models.size();
  }
}

VramOutcome VramReplay::run() {
  const Instant start = now_;
  after(trace_.uses.front().at, [this] { arrive(0); });
  while (!schedule_.empty()) {
    const auto next = schedule_.begin();
    advance_to(next->first);
    const auto what = std::move(next->second);
    schedule_.erase(next);
    what();
  }
  std::sort(outcome_.waits_s.begin(), outcome_.waits_s.end());
  const auto served = static_cast<double>(std::max<size_t>(outcome_.waits_s.size(), 1));
  outcome_.wait_mean_s = std::accumulate(outcome_.waits_s.begin(), outcome_.waits_s.end(), 0.0) / served;
  const auto all = static_cast<double>(std::accumulate(terms_.cards.begin(), terms_.cards.end(), gpu::Units{}));
  outcome_.resident_mean /= std::max(seconds(now_ - start), 1e-9) * all;
  return std::move(outcome_);
}

void VramReplay::arrive(size_t number) {
  const VramUse& asked = trace_.uses[number];
  if (number + 1 < trace_.uses.size()) {
    after(trace_.uses[number + 1].at - asked.at, [this, number] { arrive(number + 1); });
  }
  Place& place = at(choose(asked), asked.model);
  const Place::Waiting waiting{now_, asked.hold, asked.host};
  if (place.is_resident) return use(place, waiting);
  place.waiting.push_back(waiting);
  if (!std::exchange(place.is_wanted, true)) want(place);
}

void VramReplay::use(Place& place, const Place::Waiting& waiting) {
  const bool is_remote = waiting.host != place.host;
  outcome_.remote += is_remote;
  outcome_.waits_s.push_back(seconds(now_ - waiting.asked_at + (is_remote ? terms_.network : Duration{})));
  place.used_at = now_;
  if (++place.users == 1) used(place, true);
  after(waiting.hold, [this, &place] {
    if (--place.users == 0) used(place, false);
  });
}

void VramReplay::start_load(Place& place) {
  const VramModel& model = model_of(place);
  place.is_loading = true;
  place.loaded_at = now_ + model.load;
  held_[place.host] += model.units;
  outcome_.held_max[place.host] = std::max(outcome_.held_max[place.host], held_[place.host]);
  ++outcome_.loads;
  outcome_.load_s += seconds(model.load);
  after(model.load, [this, &place] {
    place.is_loading = place.is_wanted = false;
    place.is_resident = true;
    resident_ += model_of(place).units;
    loaded(place);
    for (const Place::Waiting& waiting : std::exchange(place.waiting, {})) use(place, waiting);
  });
}

void VramReplay::refuse(Place& place) {
  outcome_.refused += place.waiting.size();
  place.waiting.clear();
  place.is_wanted = false;
}

void VramReplay::gone(Place& place) {
  place.is_resident = false;
  resident_ -= model_of(place).units;
  held_[place.host] -= model_of(place).units;
}

void VramReplay::advance_to(Instant next) {
  outcome_.resident_mean += static_cast<double>(resident_) * seconds(next - now_);
  now_ = next;
}

}  // namespace mesh::bench
