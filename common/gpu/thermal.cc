#include "common/gpu/thermal.h"

namespace mesh::gpu {
namespace {

constexpr Duration kDwell = milliseconds(10'000);
constexpr double kBelowSlowdown_c = 3;
constexpr double kCriticalHysteresis_c = 5;

}  // namespace

std::string_view to_string(Band band) {
  constexpr std::string_view kNames[] = {"cool", "warm", "hot", "critical"};
  return kNames[static_cast<size_t>(band)];
}

void Thermal::observe(double celsius, bool is_slowed, Instant now) {
  const Band next = wanted(celsius, is_slowed);
  if (next == band_ || (changed_at_ && now - *changed_at_ < kDwell)) return;
  band_ = next;
  changed_at_ = now;
}

Band Thermal::wanted(double celsius, bool is_slowed) const {
  const double critical_c = at_.slowdown_c - kBelowSlowdown_c;
  // Already there it has to cool down further to leave.
  const auto is_in = [&](Band band, double in_c, double out_c) {
    return celsius >= in_c || (band_ >= band && celsius > out_c);
  };
  if (is_slowed || is_in(Band::kCritical, critical_c, critical_c - kCriticalHysteresis_c)) return Band::kCritical;
  if (is_in(Band::kHot, at_.hot_in_c, at_.hot_out_c)) return Band::kHot;
  return is_in(Band::kWarm, at_.warm_in_c, at_.warm_out_c) ? Band::kWarm : Band::kCool;
}

double Thermal::duty() const {
  constexpr double kDuties[] = {1, 1, 0.6, 0.3};
  return kDuties[static_cast<size_t>(band_)];
}

}  // namespace mesh::gpu
