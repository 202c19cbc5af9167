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
// What no choice can exceed, whatever the sizes and costs: to be hit, a reply takes its bytes for as long as it waits,
// and there are so many in all. (PFOO-U: Berger, Beckmann, Harchol-Balter, "Practical Bounds on Optimal Caching with
// Variable Object Sizes", SIGMETRICS 2018.)
Score bound(const Trace& trace, uint64_t budget_bytes);

}  // namespace mesh::bench
