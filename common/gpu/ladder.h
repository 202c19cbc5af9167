// How one lease is made to give its memory back: from a polite question to as far as it agreed.
//
// YIELD ─▶ acknowledged ─▶ done ─▶ seen to be free. Whoever answers too late, or says it is done when it is not, is
// asked once more. Then, if the lease agreed to that, SIGTERM and at last SIGKILL; otherwise it keeps what it has.
#pragma once

#include <cstdint>
#include <string_view>

#include "common/base/instant.h"
#include "common/gpu/lease.h"

namespace mesh::gpu {

enum class YieldHow : uint8_t { kTrim, kOffload, kRelease };
std::string_view to_string(YieldHow how);
constexpr YieldHow how_of(Revocability agreed) {
  if (agreed == Revocability::kTrim) return YieldHow::kTrim;
  return agreed == Revocability::kOffload ? YieldHow::kOffload : YieldHow::kRelease;
}

// What is to be done next.
enum class Rung : uint8_t {
  kWait,  // nothing until deadline()
  kAsk,
  kTerminate,
  kKill,
  kGiveUp,  // it keeps what it has
};

class Ladder {
 public:
  // Units on each GPU; asked at once.
  Ladder(Revocability agreed, Units units, Instant now);

  Rung acknowledged(Duration eta, Instant now);
  // It did as it was asked, or says so: then that is to be seen, however long no sample is taken.
  void done(bool is_known);
  // It will not, or a sample shows, long enough after it said so, that it did not.
  Rung refused(Instant now);
  Rung on_time(Instant now);

  Instant deadline() const { return deadline_; }
  YieldHow how() const { return how_of(agreed_); }
  Units units() const { return units_; }
  bool is_to_be_seen() const { return at_ == At::kToBeSeen; }

 private:
  enum class At : uint8_t { kAsked, kAcknowledged, kToBeSeen, kTerminated, kKilled, kOver };
  Rung climb(Instant now);
  void stand(At at, Instant until) {
    at_ = at;
    deadline_ = until;
  }

  Revocability agreed_;
  Units units_;
  At at_ = At::kAsked;
  int yields_ = 1;
  Instant deadline_;
};

}  // namespace mesh::gpu
