#include "common/telemetry/decision_log.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "common/base/check.h"

namespace mesh::telemetry {
namespace {

constexpr std::array<std::string_view, kStageCount> kStageNames = {
    "earlier_attempts", "queue", "batch_wait",      "compress",  "link_out",   "callee_decompress",
    "callee_queue",     "agent", "callee_compress", "link_back", "decompress", "unanswered",
};

bool slower(const Decision& a, const Decision& b) { return a.total_us > b.total_us; }

}  // namespace

std::string_view to_string(Stage stage) { return kStageNames.at(static_cast<size_t>(stage)); }

std::string_view to_string(Why why) {
  constexpr std::string_view names[] = {"nobody could be chosen", "the only one", "on the caller's host",
                                        "fewest in flight", "the next one after NOT_SENT"};
  return names[static_cast<size_t>(why)];
}

std::string_view to_string(Choice::State state) {
  constexpr std::string_view names[] = {"available", "draining", "failing", "tried"};
  return names[static_cast<size_t>(state)];
}

Decision& DecisionLog::Ring::advance(size_t count_max) {
  if (kept.size() < count_max) {
    next = (kept.size() + 1) % count_max;
    return kept.emplace_back();
  }
  Decision& place = kept[next];
  next = (next + 1) % count_max;
  return *std::construct_at(&place);
}

void DecisionLog::Ring::add_newest(size_t count, std::vector<const Decision*>& to) const {
  for (size_t i = 0; i < std::min(count, kept.size()); ++i) {
    to.push_back(&kept[(next + 2 * kept.size() - 1 - i) % kept.size()]);
  }
}

Decision& DecisionLog::begin() {
  begun_ = &newest_.advance(kNewestMax);
  return *begun_;
}

void DecisionLog::keep(Instant now) {
  MESH_CHECK(begun_ != nullptr);
  const Decision& decision = *std::exchange(begun_, nullptr);
  if (decision.code != Code::kOk) failed_.advance(kFailedMax) = decision;
  keep_if_slow(decision, now);
}

void DecisionLog::keep_if_slow(const Decision& decision, Instant now) {
  if (now >= slow_until_) {
    // After a quiet time the span before this one is empty, too.
    slow_before_ = now < slow_until_ + kSlowestSpan ? std::exchange(slow_, {}) : std::vector<Decision>();
    slow_.clear();
    slow_until_ = now + kSlowestSpan;
  }
  if (slow_.size() == kSlowestMax) {
    if (decision.total_us <= slow_.front().total_us) return;
    std::pop_heap(slow_.begin(), slow_.end(), slower);
    slow_.back() = decision;
  } else {
    slow_.push_back(decision);
  }
  std::push_heap(slow_.begin(), slow_.end(), slower);
}

const Decision* DecisionLog::find(uint64_t number) const {
  for (const auto* kept : {&newest_.kept, &failed_.kept, &slow_, &slow_before_}) {
    const auto at = std::find_if(kept->begin(), kept->end(), [&](const Decision& d) { return d.number == number; });
    if (at != kept->end()) return &*at;
  }
  return nullptr;
}

std::vector<const Decision*> DecisionLog::newest(size_t count) const {
  std::vector<const Decision*> found;
  newest_.add_newest(count, found);
  return found;
}

std::vector<const Decision*> DecisionLog::failed(size_t count) const {
  std::vector<const Decision*> found;
  failed_.add_newest(count, found);
  return found;
}

std::vector<const Decision*> DecisionLog::slowest(size_t count) const {
  std::vector<const Decision*> found;
  for (const auto* kept : {&slow_, &slow_before_}) {
    for (const Decision& decision : *kept) found.push_back(&decision);
  }
  std::sort(found.begin(), found.end(), [](const Decision* a, const Decision* b) { return slower(*a, *b); });
  found.resize(std::min(found.size(), count));
  return found;
}

}  // namespace mesh::telemetry
