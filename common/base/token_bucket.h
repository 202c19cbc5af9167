// How much of something is allowed: a burst at once, then a steady rate.
#pragma once

#include <algorithm>

#include "common/base/instant.h"

namespace mesh {

class TokenBucket {
 public:
  // Full at first.
  TokenBucket(double burst, double per_second) : burst_(burst), per_second_(per_second), tokens_(burst) {}

  // Takes one; false if there is none left. `now` never goes back.
  bool take(Instant now) {
    const double elapsed_s = static_cast<double>(to_us(now - filled_at_)) / 1e6;
    // The first time counts from the epoch of the clock: full either way.
    tokens_ = std::min(burst_, tokens_ + elapsed_s * per_second_);
    filled_at_ = now;
    if (tokens_ < 1) return false;
    tokens_ -= 1;
    return true;
  }

 private:
  double burst_;
  double per_second_;
  double tokens_;
  Instant filled_at_{};
};

}  // namespace mesh
