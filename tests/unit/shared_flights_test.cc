#include "common/cache/shared_flights.h"

#include <doctest/doctest.h>

#include <array>

namespace mesh::cache {
namespace {

const Instant kNow{milliseconds(5'000)};

struct Places {
  std::array<uint64_t, 16> words{};
  SharedFlights flights{words};
  SharedFlights others{words};
};

Instant after(int64_t ms) { return kNow + milliseconds(ms); }

TEST_CASE("a key is fetched by one at a time, until he ends it or was not heard of for as long as he said") {
  Places places;
  const Hash hash{3, 0x1234'5678'9ABC'DEF0};
  CHECK_FALSE(places.others.is_under_way(hash, kNow));
  auto mark = places.flights.begin(hash, kNow, after(20));
  REQUIRE(mark);
  CHECK(places.others.is_under_way(hash, after(19)));
  CHECK_FALSE(places.others.begin(hash, after(19), after(40)));
  CHECK(places.flights.extend(*mark, after(40)));
  CHECK(places.others.is_under_way(hash, after(39)));
  CHECK_FALSE(places.others.is_under_way(hash, after(40)));
  CHECK(places.flights.extend(*mark, after(60)));
  places.flights.end(*mark);
  CHECK_FALSE(places.others.is_under_way(hash, kNow));
}

TEST_CASE("who was late neither extends nor ends what another has begun since") {
  Places places;
  const Hash hash{3, 0x1234'5678'9ABC'DEF0};
  auto late = places.flights.begin(hash, kNow, after(20));
  auto next = places.others.begin(hash, after(20), after(45));
  REQUIRE(late);
  REQUIRE(next);
  CHECK_FALSE(places.flights.extend(*late, after(100)));
  places.flights.end(*late);
  CHECK(places.flights.is_under_way(hash, after(44)));
}

TEST_CASE("what began before it became wrong is not under way, and who begins behind that has the place") {
  Places places;
  const Hash hash{3, 0x1234'5678'9ABC'DEF0};
  auto wrong = places.flights.begin(hash, kNow, after(20), 7, 5);
  REQUIRE(wrong);
  CHECK(places.others.is_under_way(hash, kNow, 7));
  CHECK_FALSE(places.others.is_under_way(hash, kNow, 8));
  CHECK_FALSE(places.others.begin(hash, kNow, after(20), 9, 7));
  CHECK(places.others.begin(hash, kNow, after(20), 9, 8));
  CHECK_FALSE(places.flights.extend(*wrong, after(40)));
  CHECK(places.flights.is_under_way(hash, kNow, 8));
}

TEST_CASE("another key at the same place is neither under way nor can it be begun meanwhile") {
  Places places;
  CHECK(places.flights.begin({3, 1ULL << 60}, kNow, after(20)));
  const Hash other{3 + 16, 1ULL << 61};
  CHECK_FALSE(places.others.is_under_way(other, kNow));
  CHECK_FALSE(places.others.begin(other, kNow, after(20)));
  CHECK(places.others.begin(other, after(20), after(40)));
}

TEST_CASE("a word from before the clock began anew is not believed") {
  Places places;
  const Hash hash{3, 1ULL << 60};
  CHECK(places.flights.begin(hash, after(9'000'000), after(9'000'020)));
  CHECK_FALSE(places.others.is_under_way(hash, kNow));
  CHECK(places.others.begin(hash, kNow, after(20)));
}

}  // namespace
}  // namespace mesh::cache
