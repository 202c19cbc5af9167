// How hot a card is, in bands that do not flutter.
//
// A thermostat: it switches on at one temperature, off at a lower one, and not again within ten seconds, so a card that
// hovers at a threshold does not move work to and fro.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "common/base/instant.h"

namespace mesh::gpu {

enum class Band : uint8_t {
  kCool,
  kWarm,      // batch work is placed elsewhere
  kHot,       // and gets no new grants here; compute runs part of the time
  kCritical,  // and yields what it has
};
std::string_view to_string(Band band);

struct ThermalThresholds {
  double warm_in_c = 78;
  double warm_out_c = 73;
  double hot_in_c = 83;
  double hot_out_c = 78;
  // Where the card slows itself down, as it says; critical begins 3 °C below.
  double slowdown_c = 90;
};

class Thermal {
 public:
  explicit Thermal(const ThermalThresholds& thresholds = {}) : at_(thresholds) {}

  // What was just measured; `is_slowed` if the card says that it slows itself down for its heat.
  void observe(double celsius, bool is_slowed, Instant now);
  Band band() const { return band_; }
  // The share of the time in which compute may run.
  double duty() const;
  // How many times longer work takes here for it.
  double slowdown() const { return 1 / duty(); }

 private:
  Band wanted(double celsius, bool is_slowed) const;

  ThermalThresholds at_;
  Band band_ = Band::kCool;
  std::optional<Instant> changed_at_;
};

// Breaks from computing on a card that is hot, of those who wait to be told that they may begin.
//
// A runner with a stitch: after each stretch he walks for so long that running is only a share of the time, and the
// longer the stretch, the longer the walk. What has begun is not interrupted, and nobody is kept for more than
// kBreakMax, so stretches of several seconds, and those who do not wait, make the share larger than it should be.
class DutyCycle {
 public:
  static constexpr Duration kBreakMax = milliseconds(2000);

  // Whether anybody computes from now on, and which share of the time that may be.
  void observe(bool is_computing, double duty, Instant now);
  // Who wants to begin has to wait.
  bool is_resting() const { return is_resting_; }
  // When that is over, if nobody computes until then; kNever while somebody does, or if it is not resting.
  Instant rested_at() const;

 private:
  // Begun together is computed together: the break is due when it is worth one.
  static constexpr Duration kBreakMin = milliseconds(200);

  bool is_computing_ = false;
  bool is_resting_ = false;
  double duty_ = 1;
  Instant as_of_{};
  Duration due_{};  // the break
};

}  // namespace mesh::gpu
