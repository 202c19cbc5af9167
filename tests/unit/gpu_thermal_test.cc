#include <doctest/doctest.h>

#include <algorithm>
#include <array>

#include "common/base/prng.h"
#include "common/gpu/policing.h"
#include "common/gpu/thermal.h"

namespace mesh::gpu {
namespace {

const Instant kNow{milliseconds(1'000'000)};
Instant at_s(int64_t seconds) { return kNow + milliseconds(seconds * 1000); }

TEST_CASE("a band is entered at one temperature and left at a lower one") {
  Thermal thermal;
  thermal.observe(77.9, false, at_s(0));
  CHECK(thermal.band() == Band::kCool);
  thermal.observe(78, false, at_s(20));
  CHECK(thermal.band() == Band::kWarm);
  thermal.observe(74, false, at_s(40));
  CHECK(thermal.band() == Band::kWarm);
  thermal.observe(73, false, at_s(60));
  CHECK(thermal.band() == Band::kCool);
  thermal.observe(85, false, at_s(80));
  CHECK(thermal.band() == Band::kHot);
  thermal.observe(87, false, at_s(100));
  CHECK(thermal.band() == Band::kCritical);
  thermal.observe(82.5, false, at_s(120));
  CHECK(thermal.band() == Band::kCritical);
  thermal.observe(50, false, at_s(140));
  CHECK(thermal.band() == Band::kCool);
}

TEST_CASE("a card that says it slows down is critical, however cool it says it is") {
  Thermal thermal;
  thermal.observe(60, true, at_s(0));
  CHECK(thermal.band() == Band::kCritical);
}

TEST_CASE("thresholds that the card knows count") {
  ThermalThresholds own;
  own.slowdown_c = 100;
  Thermal thermal(own);
  thermal.observe(90, false, at_s(0));
  CHECK(thermal.band() == Band::kHot);
}

TEST_CASE("no temperature changes the band twice within ten seconds") {
  Prng prng(3);
  Thermal thermal;
  Band last = thermal.band();
  int64_t changed_ms = -100'000;
  for (int64_t ms = 0; ms < 3'600'000; ms += 250) {
    thermal.observe(70 + static_cast<double>(prng.below(25)), prng.below(50) == 0, kNow + milliseconds(ms));
    if (thermal.band() == last) continue;
    REQUIRE(ms - changed_ms >= 10'000);
    changed_ms = ms;
    last = thermal.band();
  }
}

// Two cards as resistors and capacitors of heat, with more work than both can do: peak temperatures over an hour. With
// the policy a hot one computes part of the time; that work also moves to the cooler one is not counted here.
std::array<double, 2> peaks(bool with_policy, int& changes_within_10_s) {
  constexpr double kRoom_c = 25;
  constexpr double kFullPower_c[] = {70, 66};  // above the room, if it computes all the time
  constexpr double kSeconds = 60;              // to get two thirds of the way there
  std::array<Thermal, 2> thermals;
  std::array<double, 2> celsius = {kRoom_c, kRoom_c};
  std::array<double, 2> peak{};
  std::array<int64_t, 2> changed_s = {-100, -100};
  for (int64_t s = 0; s < 3600; ++s) {
    for (size_t i = 0; i < 2; ++i) {
      const double load = with_policy ? thermals[i].duty() : 1;
      celsius[i] += (kRoom_c + load * kFullPower_c[i] - celsius[i]) / kSeconds;
      peak[i] = std::max(peak[i], celsius[i]);
      const Band before = thermals[i].band();
      thermals[i].observe(celsius[i], false, at_s(s));
      if (thermals[i].band() == before) continue;
      changes_within_10_s += s - changed_s[i] < 10;
      changed_s[i] = s;
    }
  }
  return peak;
}

TEST_CASE("on a simulated plant both cards peak at least five degrees lower with the policy") {
  int fluttered = 0;
  const auto without = peaks(false, fluttered);
  const auto with = peaks(true, fluttered);
  CHECK(without[0] - with[0] >= 5);
  CHECK(without[1] - with[1] >= 5);
  CHECK(fluttered == 0);
}

TEST_CASE("a process is let off 64 MiB or a twentieth, whichever is more") {
  CHECK_FALSE(is_overuse({units_of(264 * kMiB), units_of(100 * kMiB), units_of(100 * kMiB)}));
  CHECK(is_overuse({units_of(266 * kMiB), units_of(100 * kMiB), units_of(100 * kMiB)}));
  CHECK_FALSE(is_overuse({units_of(10 * kGiB) + units_of(500 * kMiB), units_of(10 * kGiB), 0}));
  CHECK(is_overuse({units_of(10 * kGiB) + units_of(520 * kMiB), units_of(10 * kGiB), 0}));
}

TEST_CASE("one sample is none, and a good one in between begins anew") {
  Policer policer;
  const ProcessUse bad{1000, 100, 0};
  const ProcessUse good{100, 100, 0};
  CHECK_FALSE(policer.observe(bad));
  CHECK_FALSE(policer.observe(good));
  CHECK_FALSE(policer.observe(bad));
  CHECK(policer.observe(bad));
  CHECK_FALSE(policer.is_stubborn());
  for (int i = 0; i < 3; ++i) policer.observe(bad);
  CHECK(policer.is_stubborn());
  policer.observe(good);
  CHECK_FALSE(policer.is_over());
}

TEST_CASE("a lease that is not filled hides nobody, and what goes beyond one is foreign") {
  const ProcessUse unfilled[] = {{100, 1000, 50}};
  CHECK(foreign_of(700, 200, unfilled) == 400);
  const ProcessUse beyond[] = {{1300, 1000, 50}};
  CHECK(foreign_of(1500, 200, beyond) == 250);
  CHECK(foreign_of(100, 200, {}) == 0);  // samples of two moments may not fit together
}

}  // namespace
}  // namespace mesh::gpu
