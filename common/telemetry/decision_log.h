// The records worth keeping: the newest, the slowest, the failed.
#pragma once

#include <vector>

#include "common/telemetry/decision.h"

namespace mesh::telemetry {

class DecisionLog {
 public:
  static constexpr size_t kNewestMax = 1024;
  static constexpr size_t kFailedMax = 256;
  static constexpr size_t kSlowestMax = 32;
  // A slow call is told of for at least one and at most two of these.
  static constexpr Duration kSlowestSpan = std::chrono::minutes(5);

  // Where the next record is to be constructed; then call keep() with it.
  Decision* next_place() { return newest_.advance(kNewestMax); }
  void keep(const Decision& decision, Instant now) {
    if (decision.code != Code::kOk) [[unlikely]]
      *failed_.advance(kFailedMax) = decision;
    const bool is_slow = slow_.size() < kSlowestMax || decision.total() > slow_.front().total();
    if (is_slow || now >= slow_until_) [[unlikely]]
      keep_slow(decision, now);
  }

  // The record of that number, or null if it is gone. Valid until the next next_place().
  const Decision* find(uint64_t number) const;
  // At most `count`, the newest or the slowest first. Valid likewise.
  std::vector<const Decision*> newest(size_t count) const;
  std::vector<const Decision*> failed(size_t count) const;
  std::vector<const Decision*> slowest(size_t count) const;

 private:
  // The last so many, in a ring.
  struct Ring {
    std::vector<Decision> places;
    size_t last = 0;
    Decision* advance(size_t count_max) {
      if (places.size() < count_max) [[unlikely]]
        return grow();
      last = last + 1 == count_max ? 0 : last + 1;
      return &places[last];
    }
    Decision* grow();
    void add_newest(size_t count, std::vector<const Decision*>& to) const;
  };
  void keep_slow(const Decision& decision, Instant now);

  Ring newest_;
  Ring failed_;
  std::vector<Decision> slow_;         // of this span, a heap with the least slow on top
  std::vector<Decision> slow_before_;  // of the one before
  Instant slow_until_{};
};

}  // namespace mesh::telemetry
