// Whose turn it is: each priority's use of memory, in bytes × seconds over its weight.
//
// Stride scheduling (Waldspurger and Weihl 1995) on byte-seconds: who holds 1 GiB for ten seconds and who holds 10 GiB
// for one have had the same. How long a hold lasts is not known when it begins, so what is expected is charged then,
// more while it lasts longer, and what was too much is given back when it ends.
#pragma once

#include <array>
#include <cstdint>
#include <unordered_map>

#include "common/base/instant.h"
#include "common/base/priority.h"
#include "common/gpu/units.h"

namespace mesh::gpu {

inline constexpr size_t kPriorities = 4;
inline constexpr std::array<double, kPriorities> kPriorityWeights = {8, 4, 2, 1};
constexpr double weight_of(Priority priority) { return kPriorityWeights[static_cast<size_t>(priority)]; }

class FairShare {
 public:
  // Of GPUs that have so many units in all.
  explicit FairShare(Units capacity) : capacity_(capacity) {}

  // A hold begins; `units` on all its GPUs together.
  void begin(LeaseId id, Priority priority, Units units, Duration expected, Instant now);
  // It holds so many from now on.
  void resize(LeaseId id, Units units, Instant now);
  void end(LeaseId id, Instant now);
  // Charges holds that last longer than expected.
  void advance(Instant now);

  // Somebody of the priority waits, where nobody did. Among those who wait or hold something, what it did not use while
  // it wanted nothing is no credit, and what it used while nobody else wanted it is a debt of a minute of all at most.
  void arrive(Priority priority, const std::array<bool, kPriorities>& waiting);
  // The least is next.
  double pass(Priority priority) const { return pass_[static_cast<size_t>(priority)]; }

 private:
  struct Hold {
    Priority priority;
    Units units;
    Instant since;   // of this size
    double earlier;  // unit-seconds before that
    double charged;  // unit-seconds, in all
    double used(Instant now) const {
      return earlier + static_cast<double>(units) * std::chrono::duration<double>(now - since).count();
    }
  };
  void charge(Hold& hold, double unit_seconds);

  Units capacity_;
  std::unordered_map<LeaseId, Hold, HashOfId> holds_;
  std::array<double, kPriorities> pass_{};
};

}  // namespace mesh::gpu
