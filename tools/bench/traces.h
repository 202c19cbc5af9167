// What is asked for, one request after the other: to see what memory for replies is good for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "common/base/prng.h"

namespace mesh::bench {

struct Asked {
  uint64_t key;
  uint32_t bytes;
  int64_t cost_us;  // what the reply takes to get
};
using Trace = std::vector<Asked>;

// Which of `keys` is asked for, some far more often than others.
class Zipf {
 public:
  Zipf(size_t keys, double skew);
  uint64_t draw(Prng& prng) const;

 private:
  std::vector<double> sums_;
};

// An answer of one size and cost, or of its own of each: 600 B to 40 KiB, 1 ms to 2 s.
Asked plain(uint64_t key);
Asked varied(uint64_t key);

struct TraceShape {
  size_t requests = 200'000;
  size_t keys = 10'000;
  double skew = 0.9;
  Asked (*make)(uint64_t) = plain;
  uint64_t seed = 1;
};

Trace zipf(const TraceShape& shape);
// Every tenth request belongs to somebody who reads everything once.
Trace scanned(const TraceShape& shape);
// Somebody goes through all keys, again and again.
Trace looped(const TraceShape& shape);
// What is liked changes, ten times.
Trace shifted(const TraceShape& shape);

// The share of requests that were made before: what memory without end would answer.
double duplicate_share(const Trace& trace);

}  // namespace mesh::bench
