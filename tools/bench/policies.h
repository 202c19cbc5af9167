// Who goes when room is needed: four ways to choose, each given the same requests.
#pragma once

#include <cstdint>

#include "tools/bench/traces.h"

namespace mesh::bench {

struct Score {
  double hits = 0;   // of the requests, 0 to 1
  double saved = 0;  // of the cost
};

// The real one: common/cache/memory_tier.
Score memory_tier(const Trace& trace, uint64_t budget_bytes);
Score lru(const Trace& trace, uint64_t budget_bytes);
// Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023.
Score s3fifo(const Trace& trace, uint64_t budget_bytes);
// Belady's choice, which knows the future: for replies of one size the best there is.
Score belady(const Trace& trace, uint64_t budget_bytes);

}  // namespace mesh::bench
