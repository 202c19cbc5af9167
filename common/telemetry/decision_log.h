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

  // The place for the next record, fresh. Call keep() once it is filled, before the next begin().
  Decision& begin();
  void keep(Instant now);

  // The record of that number, or null if it is gone. Valid until the next begin().
  const Decision* find(uint64_t number) const;
  // At most `count`, the newest or the slowest first. Valid likewise.
  std::vector<const Decision*> newest(size_t count) const;
  std::vector<const Decision*> failed(size_t count) const;
  std::vector<const Decision*> slowest(size_t count) const;

 private:
  // The last so many, in a ring.
  struct Ring {
    std::vector<Decision> kept;
    size_t next = 0;
    Decision& advance(size_t count_max);
    void add_newest(size_t count, std::vector<const Decision*>& to) const;
  };
  void keep_if_slow(const Decision& decision, Instant now);

  Ring newest_;
  Ring failed_;
  Decision* begun_ = nullptr;
  std::vector<Decision> slow_;         // of this span, a heap with the least slow on top
  std::vector<Decision> slow_before_;  // of the one before
  Instant slow_until_{};
};

}  // namespace mesh::telemetry
