// How far another host's clock is ahead of ours, and how well we can know that.
//
// Somebody calls across a valley, is answered, and hears the answer's time of day shouted with it. The echo took a
// second, so the other clock is known to within half of it; the quickest echo of all knows best. (RFC 5905 section 8,
// on-wire protocol.)
#pragma once

#include <cstdint>

#include "common/base/instant.h"

namespace mesh::telemetry {

class ClockOffset {
 public:
  // One exchange: left and came back by our clock, was received by theirs, and stayed there for `away_us`.
  void observe(Instant left, uint64_t received_us, uint64_t away_us, Instant came_back) {
    const int64_t travel_us = to_us(came_back - left) - static_cast<int64_t>(away_us);
    if (travel_us < 0) return;  // the other end miscounts
    const int64_t bound_us = (travel_us + 1) / 2;
    if (known_ && bound_us > bound_at(came_back)) return;
    offset_us_ = static_cast<int64_t>(received_us) - (to_us(left.time_since_epoch()) + travel_us / 2);
    bound_us_ = bound_us;
    at_ = came_back;
    known_ = true;
  }

  bool known() const { return known_; }
  // Theirs less ours.
  int64_t offset_us() const { return offset_us_; }
  // The offset is within this of the truth. It grows with time: quartz clocks drift by some 100 parts in a million.
  int64_t bound_at(Instant now) const { return bound_us_ + ((now - at_).count() >> kDriftShift); }
  // Another process, or another host, at the same address.
  void forget() { known_ = false; }

 private:
  static constexpr int kDriftShift = 22;  // from ns to µs and 238 ppm of it: both clocks, 100 ppm each, and a rest

  bool known_ = false;
  int64_t offset_us_ = 0;
  int64_t bound_us_ = 0;
  Instant at_{};
};

}  // namespace mesh::telemetry
