#include "common/telemetry/decision_log.h"

#include <algorithm>
#include <utility>

namespace mesh::telemetry {
namespace {

bool slower(const Decision& a, const Decision& b) { return a.total() > b.total(); }

}  // namespace

Decision* DecisionLog::Ring::grow() {
  last = places.size();
  return &places.emplace_back();
}

void DecisionLog::Ring::add_newest(size_t count, std::vector<const Decision*>& to) const {
  for (size_t i = 0; i < std::min(count, places.size()); ++i)
    to.push_back(&places[(last + places.size() - i) % places.size()]);
}

void DecisionLog::keep_slow(const Decision& decision, Instant now) {
  if (now >= slow_until_) {
    // After a quiet time the span before this one is empty, too.
    slow_before_ = now < slow_until_ + kSlowestSpan ? std::exchange(slow_, {}) : std::vector<Decision>();
    slow_.clear();
    slow_until_ = now + kSlowestSpan;
  }
  if (slow_.size() == kSlowestMax) {
    std::pop_heap(slow_.begin(), slow_.end(), slower);
    slow_.back() = decision;
  } else {
    slow_.push_back(decision);
  }
  std::push_heap(slow_.begin(), slow_.end(), slower);
}

const Decision* DecisionLog::find(uint64_t number) const {
  for (const auto* kept : {&newest_.places, &failed_.places, &slow_, &slow_before_}) {
    const auto at =
        std::find_if(kept->begin(), kept->end(), [&](const Decision& d) { return d.trace.number == number; });
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
