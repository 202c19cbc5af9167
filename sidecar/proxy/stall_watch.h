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
    seen_ = moved;
    seen_at_ = now;
    look_at_ = now + milliseconds(limits::stall_check_ms);
  }
  void end() { look_at_ = kNever; }
  bool active() const { return look_at_ != kNever; }

  // When to look next; kNever while there is nothing to watch.
  Instant next_deadline() const { return look_at_; }
  // How long next to nothing was moved; for which it must be asked at each of its deadlines.
  Duration look(uint64_t moved, Instant now) {
    if (!active()) return Duration{0};
    if (moved - seen_ >= limits::stall_progress_bytes) {
      seen_ = moved;
      seen_at_ = now;
    }
    if (now >= look_at_) look_at_ = now + milliseconds(limits::stall_check_ms);
    return now - seen_at_;
  }
  bool is_stalled(uint64_t moved, Instant now) { return look(moved, now) >= milliseconds(limits::stall_ms); }

 private:
  Instant look_at_ = kNever;
  uint64_t seen_ = 0;
  Instant seen_at_{};
};

}  // namespace mesh::proxy
