#include "tools/bench/vram_arbiter.h"

#include <algorithm>

#include "common/base/check.h"

namespace mesh::bench {

using arbiter::Actions;
using gpu::Units;

VramArbiters::VramArbiters(const VramTrace& trace, const VramTerms& terms)
    : VramReplay(trace, terms), hosts_(terms.cards.size()) {
  for (size_t i = 0; i < hosts_.size(); ++i) {
    arbiter::ArbiterConfig config;
    config.sees_processes = false;
    config.gpus.push_back({{0, 1}, {terms.cards[i], 0, gpu::bounds::emergency_units}, {}});
    Host& host = hosts_[i];
    host.engine = std::make_unique<arbiter::Engine>(std::move(config));
    host.leases.resize(trace.models.size());
    host.is_asked_back.resize(trace.models.size());
    Actions out;
    host.engine->begin({}, now_, out);
    host.engine->on(arbiter::GpuSampled{}, now_, out);
  }
}

size_t VramArbiters::choose(const VramUse& use) {
  std::vector<gpu::Site> sites;
  for (size_t host = 0; host < hosts_.size(); ++host) sites.push_back(site_of(host, use));
  const gpu::Work work{trace_.models[use.model].units, std::chrono::duration<double>(use.hold).count(),
                       gpu::affinity_of(trace_.models[use.model].units)};
  // A request is new wherever it goes, but a model that is there is where it was.
  std::optional<size_t> current;
  for (size_t host = 0; host < hosts_.size(); ++host) {
    if (at(host, use.model).is_resident) current = host;
  }
  return gpu::place(work, sites, current, now_).value_or(use.host);
}

// As its arbiter would tell it: what is there, and how long what is not would take.
gpu::Site VramArbiters::site_of(size_t host, const VramUse& use) {
  const Place& place = at(host, use.model);
  const VramModel& model = model_of(place);
  const gpu::Ledger& ledger = hosts_[host].engine->gpus()[0].ledger;
  const auto seconds = [](Duration duration) { return std::chrono::duration<double>(duration).count(); };
  gpu::Site site;
  site.is_own_host = host == use.host;
  site.heard_at = now_;
  site.largest = ledger.largest();
  site.network_s = site.is_own_host ? 0 : seconds(terms_.network);
  site.is_coming = place.is_wanted;
  if (place.is_resident) return site;
  if (place.is_loading) {
    site.queue_s = seconds(place.loaded_at - now_);
    return site;
  }
  Units idle = 0;
  for (size_t other = 0; other < trace_.models.size(); ++other) {
    const Place& each = at(host, other);
    if (each.is_idle()) idle += model_of(each).units;
    // Who waits before it is loaded before it.
    if (each.is_wanted && !each.is_loading) site.queue_s += seconds(model_of(each).load);
  }
  const Units missing = model.units - ledger.grantable();
  constexpr double kInUse_s = 1;  // until somebody who computes is done, about
  if (missing > 0) site.reclaim_s = missing <= idle ? seconds(kYield) : kInUse_s;
  site.missing = model.units;
  site.load_gib_per_s = gpu::to_gib(model.units) / std::max(seconds(model.load), 1e-3);
  return site;
}

arbiter::LeaseName VramArbiters::name(const Place& place) const {
  const Host& host = hosts_[place.host];
  return {place.model + 1, place.model + 1, host.leases[place.model], host.engine->epoch()};
}

template <class Event>
void VramArbiters::tell(size_t host, const Event& event) {
  Actions out;
  hosts_[host].engine->on(event, now_, out);
  carry_out(host, out);
  wake(host);
}

// The engine's own time, as long as anybody waits for it.
void VramArbiters::wake(size_t host) {
  Host& own = hosts_[host];
  const Instant next = std::max(own.engine->next_deadline(), now_ + milliseconds(1));
  const bool is_needed = own.engine->queue().size() > 0;
  if (!is_needed || own.engine->next_deadline() == kNever || own.wake_at <= next) return;
  own.wake_at = next;
  after(next - now_, [this, host, next] {
    if (hosts_[host].wake_at != next) return;
    hosts_[host].wake_at = kNever;
    Actions out;
    hosts_[host].engine->on_time(now_, out);
    carry_out(host, out);
    wake(host);
  });
}

void VramArbiters::want(Place& place) {
  hosts_[place.host].leases[place.model] = {7, ++leases_};
  const VramModel& model = model_of(place);
  gpu::Request request;
  request.min = request.want = model.units;
  request.load_time = model.load;
  request.model = {1, place.model + 1};
  tell(place.host, arbiter::LeaseAsked{place.model + 1, place.model + 1, name(place).id, request, {}});
}

void VramArbiters::loaded(Place& place) {
  tell(place.host, arbiter::LeaseCommitted{name(place), model_of(place).units, {}});
}

void VramArbiters::used(Place& place, bool in_use) {
  tell(place.host, arbiter::LeaseUsed{name(place), in_use});
  if (!in_use && hosts_[place.host].is_asked_back[place.model]) give_back(place);
}

void VramArbiters::give_back(Place& place) {
  after(kYield, [this, &place] {
    const auto is_asked = hosts_[place.host].is_asked_back.begin() + static_cast<std::ptrdiff_t>(place.model);
    if (!*is_asked || !place.is_idle()) return;
    *is_asked = false;
    gone(place);
    tell(place.host, arbiter::LeaseReleased{name(place)});
  });
}

void VramArbiters::carry_out(size_t host, const Actions& actions) {
  for (const arbiter::Action& action : actions) {
    if (const auto* grant = std::get_if<arbiter::SendGrant>(&action)) start_load(at(host, grant->connection - 1));
    if (const auto* refusal = std::get_if<arbiter::SendRefusal>(&action)) refuse(at(host, refusal->connection - 1));
    const auto* asked = std::get_if<arbiter::AskYield>(&action);
    if (asked == nullptr) continue;
    Place& place = at(host, asked->connection - 1);
    hosts_[host].is_asked_back[place.model] = true;
    after(milliseconds(1), [this, &place] {
      if (!hosts_[place.host].is_asked_back[place.model]) return;
      tell(place.host, arbiter::YieldAcknowledged{name(place), milliseconds(5000)});
    });
    if (place.is_idle()) give_back(place);
  }
}

}  // namespace mesh::bench
