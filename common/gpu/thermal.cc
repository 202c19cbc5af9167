#include "common/gpu/thermal.h"

#include <algorithm>
#include <chrono>

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

void DutyCycle::observe(bool is_computing, double duty, Instant now) {
  const Duration passed = now - as_of_;
  if (is_computing_ && duty_ < 1) {
    const double break_s = std::chrono::duration<double>(passed).count() * (1 / duty_ - 1);
    const Duration grown = due_ + std::chrono::duration_cast<Duration>(std::chrono::duration<double>(break_s));
    due_ = std::min(grown, kBreakMax);
  } else if (!is_computing_) {
    due_ = std::max(due_ - passed, Duration{});
  }
  as_of_ = now;
  is_computing_ = is_computing;
  duty_ = duty;
  if (duty >= 1) due_ = {};
  is_resting_ = is_resting_ ? due_ > Duration{} : due_ >= kBreakMin;
}

Instant DutyCycle::rested_at() const { return is_resting_ && !is_computing_ ? as_of_ + due_ : kNever; }

}  // namespace mesh::gpu
