#include <doctest/doctest.h>

#include <string>

#include "common/base/prng.h"
#include "common/cache/memory_tier.h"

namespace mesh::cache {
namespace {

const Instant kNow{milliseconds(1'000'000)};

Key key_of(uint64_t number) { return {{number, number * 31}, Slice::copy_of("key " + std::to_string(number))}; }

Kept kept(uint64_t number, size_t bytes = 100, int64_t cost_us = 1000) {
  Kept made;
  made.key = key_of(number);
  made.service = 1;
  made.method = 2;
  made.body = Slice::copy_of(std::string(bytes, 'x'));
  made.stored_at = kNow;
  made.fresh_until = made.revalidate_until = made.error_until = kNow + milliseconds(1000);
  made.cost_us = cost_us;
  return made;
}

TEST_CASE("what was kept is found until it is of no use, and only by its whole key") {
  MemoryTier tier(100'000);
  const Purges purges;
  tier.put(kept(1), kNow);
  REQUIRE(tier.find(key_of(1), purges, kNow) != nullptr);
  const Key same_hash{key_of(1).hash, Slice::copy_of("another")};
  CHECK(tier.find(same_hash, purges, kNow) == nullptr);
  CHECK(tier.find(key_of(2), purges, kNow) == nullptr);
  CHECK(tier.find(key_of(1), purges, kNow + milliseconds(999)) != nullptr);
  CHECK(tier.find(key_of(1), purges, kNow + milliseconds(1000)) == nullptr);
  CHECK(tier.held_bytes() == 0);
}

TEST_CASE("it never holds more than its budget, and counts what it holds") {
  MemoryTier tier(50'000);
  const Purges purges;
  Prng prng(3);
  for (int i = 0; i < 20'000; ++i) {
    tier.put(kept(prng.below(500), 1 + prng.below(5000)), kNow);
    tier.find(key_of(prng.below(500)), purges, kNow);
    CHECK(tier.held_bytes() <= 50'000);
    if (prng.below(50) == 0) tier.erase(key_of(prng.below(500)));
  }
  CHECK(tier.evicted() > 0);
  tier.put(kept(9999, 60'000), kNow);
  CHECK(tier.find(key_of(9999), purges, kNow) == nullptr);
  CHECK(tier.held_bytes() > 0);
  for (uint64_t number = 0; number < 500; ++number) tier.erase(key_of(number));
  CHECK(tier.held_bytes() == 0);
}

TEST_CASE("what is dear or asked for often stays, what is cheap and large goes") {
  const Purges purges;
  MemoryTier tier(100 * kept(0).bytes());
  tier.put(kept(1, 100, 2'000'000), kNow);
  tier.put(kept(2), kNow);
  for (int i = 0; i < 20; ++i) tier.find(key_of(2), purges, kNow);
  for (uint64_t scan = 10; scan < 500; ++scan) tier.put(kept(scan), kNow);
  CHECK(tier.find(key_of(1), purges, kNow) != nullptr);
  CHECK(tier.find(key_of(2), purges, kNow) != nullptr);
  CHECK(tier.find(key_of(10), purges, kNow) == nullptr);
  // Not for ever.
  for (uint64_t scan = 1000; scan < 400'000; ++scan) tier.put(kept(scan), kNow);
  CHECK(tier.find(key_of(2), purges, kNow) == nullptr);
}

TEST_CASE("what comes back soon after it went stays longer than what is seen for the first time") {
  const Purges purges;
  MemoryTier tier(100 * kept(0).bytes());
  for (uint64_t scan = 0; scan < 150; ++scan) tier.put(kept(scan), kNow);
  REQUIRE(tier.find(key_of(10), purges, kNow) == nullptr);
  tier.put(kept(10), kNow);
  for (uint64_t scan = 1000; scan < 1300; ++scan) tier.put(kept(scan), kNow);
  CHECK(tier.find(key_of(10), purges, kNow) != nullptr);
  CHECK(tier.find(key_of(1000), purges, kNow) == nullptr);
}

TEST_CASE("a purge hits what began before it by any of its names, and nothing that began after it") {
  for (const uint64_t name : {uint64_t{1}, uint64_t{2}, uint64_t{33}, key_name(key_of(5).hash)}) {
    MemoryTier tier(100'000);
    Purges purges;
    Kept old = kept(5);
    old.tags = {32, 33};
    old.since = purges.position();
    tier.put(old, kNow);
    purges.purge(77);  // a stranger
    CHECK(tier.find(key_of(5), purges, kNow) != nullptr);
    purges.purge(name);
    CHECK(tier.find(key_of(5), purges, kNow) == nullptr);
    old.since = purges.position();
    tier.put(old, kNow);
    CHECK(tier.find(key_of(5), purges, kNow) != nullptr);
    purges.purge_all();
    CHECK(tier.find(key_of(5), purges, kNow) == nullptr);
  }
}

TEST_CASE("more purges than are remembered one by one purge everything rather than too little") {
  Purges purges;
  const uint64_t since = purges.position();
  const uint64_t tags[] = {5};
  for (uint64_t name = 1000; name < 100'000; ++name) purges.purge(name);
  CHECK_FALSE(purges.holds(since, {1, 2, 3, tags}));
  CHECK(purges.holds(purges.position(), {1, 2, 3, tags}));
}

}  // namespace
}  // namespace mesh::cache
