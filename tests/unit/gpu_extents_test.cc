#include <doctest/doctest.h>

#include <vector>

#include "common/base/prng.h"
#include "common/gpu/extents.h"

namespace mesh::gpu {
namespace {

TEST_CASE("a segment wastes less than one unit, and takes the fewest extents there are") {
  for (const uint64_t bytes : {uint64_t{1}, kUnitBytes, 300 * kMiB + 1, 5 * kGiB - 1, 7 * kGiB}) {
    const Extents extents = extents_of(units_of(bytes));
    CHECK(to_bytes(extents.units()) >= bytes);
    CHECK(to_bytes(extents.units()) - bytes < kUnitBytes);
    CHECK(extents.count[1] < 8);
    CHECK(extents.count[2] < 16);
  }
  // All of a card of 24 GiB in one message of descriptors.
  CHECK(extents_of(units_of(24 * kGiB)).total() <= 253);
}

TEST_CASE("a free extent is used before a new one is made") {
  ExtentPool pool;
  pool.put(extents_of(128 + 16));
  const auto plan = pool.take(128 + 17, 1000);
  REQUIRE(plan);
  CHECK(plan->create == extents_of(1));
  CHECK(plan->release.total() == 0);
  CHECK(pool.free().total() == 0);
}

TEST_CASE("without room a large one is broken, and its change stays for the next") {
  ExtentPool pool;
  pool.put(extents_of(128));
  const auto plan = pool.take(17, 0);
  REQUIRE(plan);
  CHECK(plan->release == extents_of(128));
  CHECK(plan->take == extents_of(17));
  CHECK(pool.free().units() == 128 - 17);
  CHECK(plan->create.units() == 128);
}

TEST_CASE("without room small ones are melted into a large one") {
  ExtentPool pool;
  Extents small;
  small.count = {0, 7, 20};
  pool.put(small);
  const auto plan = pool.take(128, 0);
  REQUIRE(plan);
  CHECK(plan->create == extents_of(128));
  CHECK(plan->release.units() == 128);
  CHECK(pool.free().units() == 4);
}

TEST_CASE("what does not fit is refused and changes nothing") {
  ExtentPool pool;
  pool.put(extents_of(100));
  CHECK_FALSE(pool.take(151, 50));
  CHECK(pool.free() == extents_of(100));
  CHECK(pool.take(150, 50));
}

TEST_CASE("a pool is trimmed by as few extents as do it") {
  ExtentPool pool;
  pool.put(extents_of(128 + 2 * 16 + 3));
  CHECK(pool.trim(10) == extents_of(16));
  CHECK(pool.trim(100) == extents_of(128));
  CHECK(pool.trim(1000).units() == 19);
  CHECK(pool.free().total() == 0);
}

TEST_CASE("asking for a trim begins above the share that may be stranded") {
  CHECK_FALSE(wants_trim(85, 100));
  CHECK(wants_trim(84, 100));
  CHECK_FALSE(wants_trim(0, 0));
}

TEST_CASE("units are neither lost nor made up, whatever is taken, given back and trimmed") {
  Prng prng(5);
  constexpr Units kCard = 6000;
  for (int round = 0; round < 20; ++round) {
    ExtentPool pool;
    std::vector<Extents> out;
    Units held = 0;
    for (int i = 0; i < 500; ++i) {
      const Units room = kCard - held - pool.free().units();
      REQUIRE(room >= 0);
      if (prng.below(3) == 0 && !out.empty()) {
        const size_t at = prng.below(out.size());
        pool.put(out[at]);
        held -= out[at].units();
        out.erase(out.begin() + static_cast<std::ptrdiff_t>(at));
      } else if (prng.below(10) == 0) {
        pool.trim(static_cast<Units>(prng.below(500)));
      } else {
        const Units wanted = static_cast<Units>(1 + prng.below(700));
        const Units before = pool.free().units();
        const auto plan = pool.take(wanted, room);
        REQUIRE(plan.has_value() == (wanted <= before + room));
        if (!plan) continue;
        REQUIRE(plan->take.units() == wanted);
        REQUIRE(pool.free().units() == before - plan->release.units() + plan->create.units() - wanted);
        REQUIRE(plan->create.units() - plan->release.units() <= room);
        held += wanted;
        out.push_back(plan->take);
      }
    }
  }
}

}  // namespace
}  // namespace mesh::gpu
