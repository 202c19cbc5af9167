// Whether bytes move that somebody else has to move: those we have for it, or the rest of a message it began.
#pragma once

#include <cstdint>

#include "common/base/instant.h"
#include "common/base/limits.h"

namespace mesh::proxy {

// `moved` is a count of bytes that never falls.
class StallWatch {
 public:
  void begin(uint64_t moved, Instant now) {
    judge_at_ = now + milliseconds(limits::stall_ms);
    moved_ = seen_ = moved;
    seen_at_ = now;
  }
  void end() { judge_at_ = kNever; }
  bool active() const { return judge_at_ != kNever; }

  // When to ask is_stalled(); kNever while there is nothing to watch.
  Instant next_deadline() const { return judge_at_; }
  // Whether too little was moved in the time that is over; if not, the next one begins.
  bool is_stalled(uint64_t moved, Instant now) {
    if (now < judge_at_) return false;
    if (moved - moved_ < limits::stall_progress_bytes) return true;
    begin(moved, now);
    return false;
  }
  // How long next to nothing was moved, as far as was asked.
  Duration motionless(uint64_t moved, Instant now) {
    constexpr uint64_t kNextToNothing = 16 * limits::KiB;
    if (!active()) return Duration{0};
    if (moved - seen_ >= kNextToNothing) {
      seen_ = moved;
      seen_at_ = now;
    }
    return now - seen_at_;
  }

 private:
  Instant judge_at_ = kNever;
  uint64_t moved_ = 0;
  uint64_t seen_ = 0;
  Instant seen_at_{};
};

}  // namespace mesh::proxy
