// How long to wait before connecting again: doubling with jitter, so that many sidecars whose peer restarted do not all
// knock at the same moment.
#pragma once

#include <algorithm>

#include "common/base/instant.h"
#include "common/base/limits.h"
#include "common/base/prng.h"

namespace mesh {

class Backoff {
 public:
  // The wait before the next attempt, 50-100 % of a ceiling that doubles up to limits::reconnect_max_ms.
  Duration next(Prng& prng) {
    const int64_t ceiling_us = milliseconds(ceiling_ms_).count() / 1000;
    ceiling_ms_ = std::min(ceiling_ms_ * 2, limits::reconnect_max_ms);
    return microseconds(ceiling_us / 2 + static_cast<int64_t>(prng.below(static_cast<uint64_t>(ceiling_us / 2))));
  }
  // After a connection that worked.
  void reset() { ceiling_ms_ = limits::reconnect_min_ms; }

 private:
  int64_t ceiling_ms_ = limits::reconnect_min_ms;
};

}  // namespace mesh
