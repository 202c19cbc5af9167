#include <doctest/doctest.h>

#include "common/base/prng.h"
#include "common/gpu/ledger.h"
#include "common/gpu/size_class.h"

namespace mesh::gpu {
namespace {

const Instant kNow{milliseconds(1'000'000)};
constexpr Units kTotal = units_of(12 * kGiB);
constexpr Card kCard{kTotal, units_of(300 * kMiB), bounds::emergency_units};

LeaseId id_of(uint64_t number) { return {number + 1, ~number}; }

TEST_CASE("bytes are rounded up to units, and never down to none") {
  CHECK(units_of(0) == 0);
  CHECK(units_of(1) == 1);
  CHECK(units_of(kUnitBytes) == 1);
  CHECK(units_of(kUnitBytes + 1) == 2);
  CHECK(units_of(UINT64_MAX) > 0);
}

TEST_CASE("the emergency reserve and what the driver keeps are never grantable") {
  Ledger ledger(kCard);
  CHECK(ledger.grantable() == kTotal - kCard.driver_reserved - kCard.emergency);
  CHECK_FALSE(ledger.take(id_of(1), ledger.grantable() + 1));
  CHECK(ledger.take(id_of(1), ledger.grantable()));
  CHECK(ledger.grantable() == 0);
  CHECK_FALSE(ledger.take(id_of(2), 1));
  CHECK(ledger.holds());
  CHECK(ledger.pressure() == Pressure::kGreen);
}

TEST_CASE("others count with their worst half minute, and no longer") {
  Ledger ledger(kCard);
  ledger.observe_foreign(100, kNow);
  ledger.observe_foreign(700, kNow + milliseconds(1000));
  ledger.observe_foreign(200, kNow + milliseconds(2000));
  CHECK(ledger.foreign() == 700);
  ledger.advance(kNow + milliseconds(30'999));
  CHECK(ledger.foreign() == 700);
  ledger.advance(kNow + milliseconds(31'000));
  CHECK(ledger.foreign() == 200);
  // What was measured last stays true without another sample.
  ledger.advance(kNow + milliseconds(900'000));
  CHECK(ledger.foreign() == 200);
}

TEST_CASE("samples that come too fast do not make a peak forgotten") {
  Ledger ledger(kCard);
  ledger.observe_foreign(2000, kNow);
  for (int i = 1; i < 1000; ++i) ledger.observe_foreign(1999 - i, kNow + milliseconds(i));
  CHECK(ledger.foreign() == 2000);
}

TEST_CASE("others who take what was leased turn the card red, and nothing is grantable until it is made up for") {
  Ledger ledger(kCard);
  REQUIRE(ledger.take(id_of(1), 3000));
  REQUIRE(ledger.take(id_of(2), ledger.grantable()));
  ledger.observe_foreign(10, kNow);
  CHECK(ledger.pressure() == Pressure::kRed);
  CHECK(ledger.excess() == 10);
  CHECK(ledger.holds());
  ledger.give_back(id_of(1), 9);
  CHECK(ledger.pressure() == Pressure::kRed);
  CHECK_FALSE(ledger.take(id_of(3), 1));
  ledger.give_back(id_of(1), 2);
  CHECK(ledger.pressure() != Pressure::kRed);
  CHECK(ledger.grantable() == 1);
  CHECK(ledger.holds());
}

TEST_CASE("the card is amber while the last growth, once more, would eat into the reserve") {
  Ledger ledger(kCard);
  ledger.observe_foreign(100, kNow);
  REQUIRE(ledger.take(id_of(1), ledger.grantable() - 300));
  CHECK(ledger.pressure() == Pressure::kGreen);
  ledger.observe_foreign(200, kNow + milliseconds(1000));
  CHECK(ledger.pressure() == Pressure::kGreen);  // grew by 100, 200 are left
  ledger.observe_foreign(350, kNow + milliseconds(2000));
  CHECK(ledger.pressure() == Pressure::kAmber);  // grew by 150, 50 are left
}

TEST_CASE("what is drawn on the reserve is apart, bounded, and repaid before anything else is granted") {
  Ledger ledger(kCard);
  REQUIRE(ledger.take(id_of(1), ledger.grantable() - 10));
  CHECK_FALSE(ledger.draw(id_of(2), kCard.emergency + 11, Draw::kCritical, kNow));
  REQUIRE(ledger.draw(id_of(2), 50, Draw::kCritical, kNow));
  CHECK(ledger.drawn() == 40);
  CHECK(ledger.pressure() == Pressure::kGreen);  // nobody imposed it
  CHECK(ledger.holds());
  CHECK_FALSE(ledger.take(id_of(3), 1));
  CHECK_FALSE(ledger.overdue_draw(kNow + milliseconds(4999)));
  CHECK(ledger.overdue_draw(kNow + milliseconds(5000)) == id_of(2));
  ledger.give_back(id_of(1), 39);
  CHECK(ledger.drawn() == 1);
  CHECK_FALSE(ledger.take(id_of(3), 1));
  ledger.give_back(id_of(1), 2);
  CHECK(ledger.drawn() == 0);
  CHECK(ledger.take(id_of(3), 1));
  CHECK(ledger.holds());
}

TEST_CASE("a draw is repaid by whoever it was for, once that one is gone") {
  Ledger ledger(kCard);
  REQUIRE(ledger.take(id_of(1), ledger.grantable()));
  REQUIRE(ledger.draw(id_of(2), 40, Draw::kStaging, kNow));
  REQUIRE(ledger.draw(id_of(3), 10, Draw::kCritical, kNow));
  ledger.drop(id_of(3));
  CHECK(ledger.drawn() == 40);
  CHECK(ledger.overdue_draw(kNow + milliseconds(5000)) == id_of(2));
  ledger.drop(id_of(2));
  CHECK_FALSE(ledger.overdue_draw(kNow + milliseconds(5000)));
}

TEST_CASE("a red card gives nothing out of its reserve") {
  Ledger ledger(kCard);
  REQUIRE(ledger.take(id_of(1), ledger.grantable()));
  ledger.observe_foreign(5, kNow);
  CHECK_FALSE(ledger.draw(id_of(2), 1, Draw::kCritical, kNow));
}

TEST_CASE("what is taken over after a restart is held even where there is no room, and then the card is red") {
  Ledger ledger(kCard);
  ledger.observe_foreign(1000, kNow);
  ledger.adopt(id_of(1), ledger.grantable() + 7);
  CHECK(ledger.excess() == 7);
  CHECK(ledger.pressure() == Pressure::kRed);
  CHECK(ledger.holds());
}

TEST_CASE("contexts count once per process") {
  Ledger ledger(kCard);
  const Units before = ledger.grantable();
  ledger.observe_context(7, 200);
  ledger.observe_context(7, 210);
  ledger.observe_context(8, 90);
  CHECK(ledger.grantable() == before - 300);
  ledger.observe_context(7, 0);
  ledger.observe_context(7, 0);
  CHECK(ledger.grantable() == before - 90);
}

TEST_CASE("the books are right after whatever happens, and only what was measured makes them exceed the card") {
  Prng prng(11);
  Ledger ledger(kCard);
  Instant now = kNow;
  for (int i = 0; i < 20'000; ++i) {
    const LeaseId id = id_of(prng.below(40));
    const Units units = static_cast<Units>(1 + prng.below(1500));
    const Units excess_before = ledger.excess();
    bool measured = false;
    now += milliseconds(static_cast<int64_t>(prng.below(500)));
    switch (prng.below(6)) {
      case 0:
      case 1:
        ledger.take(id, units);
        break;
      case 2:
        ledger.drop(id);
        break;
      case 3:
        if (ledger.held_by(id) > 0) ledger.give_back(id, std::min(units, ledger.held_by(id)));
        break;
      case 4:
        ledger.draw(id, units % 100 + 1, Draw::kStaging, now);
        break;
      default:
        ledger.observe_foreign(units, now);
        measured = true;
    }
    REQUIRE(ledger.holds());
    if (!measured) REQUIRE(ledger.excess() <= std::max(excess_before, ledger.drawn()));
  }
}

TEST_CASE("classes end where they are said to, and floors grow with the card") {
  CHECK(class_of(units_of(256 * kMiB)) == SizeClass::kSmall);
  CHECK(class_of(units_of(256 * kMiB) + 1) == SizeClass::kMedium);
  CHECK(class_of(units_of(4 * kGiB)) == SizeClass::kLarge);
  CHECK(class_of(units_of(4 * kGiB) + 1) == SizeClass::kXl);
  const Floors on_12(units_of(12 * kGiB));
  const Floors on_24(units_of(24 * kGiB));
  CHECK(on_12.of(SizeClass::kMedium) == units_of(1 * kGiB));
  for (const auto size : {SizeClass::kSmall, SizeClass::kMedium, SizeClass::kLarge, SizeClass::kXl}) {
    CHECK(on_24.of(size) == 2 * on_12.of(size));
  }
  CHECK(on_24.of(SizeClass::kXl) == 0);
}

TEST_CASE("only larger classes are stopped by a floor, and only below it") {
  const Floors floors(units_of(12 * kGiB));
  const Units floor = floors.of(SizeClass::kMedium);
  CHECK(floors.evictable(SizeClass::kMedium, floor, SizeClass::kXl) == 0);
  CHECK(floors.evictable(SizeClass::kMedium, floor + 5, SizeClass::kLarge) == 5);
  CHECK(floors.evictable(SizeClass::kMedium, floor, SizeClass::kMedium) == floor);
  CHECK(floors.evictable(SizeClass::kMedium, floor, SizeClass::kSmall) == floor);
}

}  // namespace
}  // namespace mesh::gpu
