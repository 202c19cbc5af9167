#include "common/gpu/ladder.h"

#include <algorithm>

#include "common/gpu/bounds.h"

namespace mesh::gpu {

std::string_view to_string(YieldHow how) {
  constexpr std::string_view kNames[] = {"trim", "offload", "release"};
  return kNames[static_cast<size_t>(how)];
}

Ladder::Ladder(Revocability agreed, Units units, Instant now)
    : agreed_(agreed), units_(units), deadline_(now + milliseconds(bounds::ack_ms)) {}

Rung Ladder::acknowledged(Duration eta, Instant now) {
  if (at_ != At::kAsked) return Rung::kWait;
  const Duration given = std::clamp<Duration>(eta, milliseconds(bounds::grace_ms), milliseconds(bounds::eta_ms_max));
  stand(At::kAcknowledged, now + given);
  return Rung::kWait;
}

void Ladder::done(bool is_known) { stand(is_known ? At::kOver : At::kToBeSeen, kNever); }

Rung Ladder::refused(Instant now) { return at_ == At::kOver ? Rung::kWait : climb(now); }

Rung Ladder::on_time(Instant now) {
  if (now < deadline_ || at_ == At::kOver) return Rung::kWait;
  return climb(now);
}

Rung Ladder::climb(Instant now) {
  if (at_ != At::kTerminated && at_ != At::kKilled) {
    if (yields_ < bounds::yields_max) {
      ++yields_;
      stand(At::kAsked, now + milliseconds(bounds::ack_ms));
      return Rung::kAsk;
    }
    if (agreed_ != Revocability::kKill) {
      stand(At::kOver, kNever);
      return Rung::kGiveUp;
    }
    stand(At::kTerminated, now + milliseconds(bounds::term_ms));
    return Rung::kTerminate;
  }
  // Nothing is above it: the memory is back when the process is gone, however long the kernel takes.
  stand(At::kKilled, kNever);
  return Rung::kKill;
}

}  // namespace mesh::gpu
