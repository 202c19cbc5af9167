// What an operator is told of what he asked or ordered.
#pragma once

#include <cstdint>
#include <vector>

#include "sidecar/arbiter/events.h"

namespace mesh::arbiter {

// Of one card: whether a request would be granted there, or who would be asked for it.
struct CardPlan {
  GpuIndex gpu = 0;
  Units free = 0;         // that it could have at once
  bool fits_now = false;  // with nobody asked
  Reason why = Reason::kNone;
  std::vector<LeaseId> asked{};  // leases and idle weights, none that is superfluous
  // When it would have it at the latest, if all do as they agreed and said; kNever if nobody can know.
  Instant at = kNever;
};

enum class Eviction : uint8_t {
  kUnknown,    // no lease and no weights of that id
  kDropped,    // idle weights: free at once
  kAsked,      // it is asked to yield, and may say no unless it agreed to be ended
  kUnderWay,   // it was asked already
  kRefused,    // it said no a moment ago, or is not connected
  kNotAgreed,  // it is not revocable
  kInUse,      // weights that are being loaded, or of which a reader is not to be asked; or one reader's lease of them
};

}  // namespace mesh::arbiter
