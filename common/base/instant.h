// Time as a value. Nothing in common/ reads a clock: `now` is an argument.
#pragma once

#include <chrono>
#include <cstdint>

namespace mesh {

using Duration = std::chrono::nanoseconds;

// A point on this host's monotonic clock. Never compared between hosts, never sent: remaining time travels instead.
struct MonotonicClock {
  using rep = int64_t;
  using period = std::nano;
  using duration = Duration;
  using time_point = std::chrono::time_point<MonotonicClock>;
  static constexpr bool is_steady = true;
};
using Instant = MonotonicClock::time_point;

inline constexpr Instant kNever = Instant::max();

constexpr Duration milliseconds(int64_t count) { return std::chrono::milliseconds(count); }
constexpr Duration microseconds(int64_t count) { return std::chrono::microseconds(count); }
constexpr int64_t to_us(Duration d) { return std::chrono::duration_cast<std::chrono::microseconds>(d).count(); }
// Rounded up: a timer that fires one tick late is correct, one that fires early spins.
constexpr int64_t to_ms_up(Duration d) { return std::chrono::ceil<std::chrono::milliseconds>(d).count(); }

}  // namespace mesh
