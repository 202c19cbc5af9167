// How often calls to one target may be sent again.
//
// Pocket money: a tenth of every call, and three coins a second; a retry costs one. When everything fails at once the
// purse is soon empty, and the target is asked at most a tenth more than without retries.
#pragma once

#include <algorithm>
#include <cstdint>

#include "common/base/instant.h"

namespace mesh::routing {

class RetryBudget {
 public:
  static constexpr int64_t kSavedMax = 100;  // retries at once, after a time without any

  void on_call() { thousandths_ = std::min(thousandths_ + kPerCall, kSavedMax * kRetry); }

  // Pays for one retry; false if it cannot. `now` never goes back.
  bool take(Instant now) {
    if (filled_at_ == Instant{}) filled_at_ = now;
    const int64_t elapsed_ms = to_us(now - filled_at_) / 1000;
    thousandths_ = std::min(thousandths_ + std::min(elapsed_ms, kSavedMax * kRetry) * kPerMs, kSavedMax * kRetry);
    filled_at_ += milliseconds(elapsed_ms);
    if (thousandths_ < kRetry) return false;
    thousandths_ -= kRetry;
    return true;
  }

 private:
  static constexpr int64_t kRetry = 1000;
  static constexpr int64_t kPerCall = kRetry / 10;
  static constexpr int64_t kPerMs = 3;  // three retries a second
  int64_t thousandths_ = 30 * kRetry;   // as after ten quiet seconds
  Instant filled_at_{};
};

}  // namespace mesh::routing
