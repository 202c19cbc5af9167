// Whether the other end of a stream takes what is there for it.
#pragma once

#include <cstdint>

#include "common/base/limits.h"
#include "common/base/transport.h"

namespace mesh::proxy {

// Begun when the kernel refuses bytes, ended when it has taken all.
class StallWatch {
 public:
  void begin(const Stream& stream, Instant now) {
    judge_at_ = now + milliseconds(limits::stall_ms);
    accepted_ = seen_ = accepted_of(stream);
    moved_at_ = now;
  }
  void end() { judge_at_ = kNever; }

  // When to ask is_stalled(); kNever while there is nothing to watch.
  Instant next_deadline() const { return judge_at_; }
  // Whether too little was taken in the time that is over; if not, the next one begins.
  bool is_stalled(const Stream& stream, Instant now) {
    if (now < judge_at_) return false;
    if (accepted_of(stream) - accepted_ < limits::stall_progress_bytes) return true;
    begin(stream, now);
    return false;
  }
  // How long nothing at all was taken, as far as was asked.
  Duration motionless(const Stream& stream, Instant now) {
    if (judge_at_ == kNever) return Duration{0};
    if (const uint64_t accepted = accepted_of(stream); accepted != seen_) {
      seen_ = accepted;
      moved_at_ = now;
    }
    return now - moved_at_;
  }

 private:
  // Bytes that the kernel has taken, ever.
  static uint64_t accepted_of(const Stream& stream) {
    return stream.handed_bytes() + stream.out_bytes() - stream.unsent_bytes();
  }

  Instant judge_at_ = kNever;
  uint64_t accepted_ = 0;
  uint64_t seen_ = 0;
  Instant moved_at_{};
};

}  // namespace mesh::proxy
