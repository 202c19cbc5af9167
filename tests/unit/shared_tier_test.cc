#include "common/cache/shared_tier.h"

#include <doctest/doctest.h>

#include <cstring>
#include <memory>
#include <vector>

#include "common/base/limits.h"
#include "tests/unit/self_telling.h"
#include "tests/unit/shared_memory.h"

namespace mesh::cache {
namespace {

using limits::KiB;
using limits::MiB;

TEST_CASE("what one sidecar put another finds, until it is of no use, and only by its whole key") {
  Memory memory(4 * MiB);
  SharedTier one = memory.attach();
  SharedTier other = memory.attach();
  CHECK(one.put(self_telling(1, 5, 1000), 42, kNow));
  const auto found = other.find(key_of(1), kNow + milliseconds(59'999));
  REQUIRE(found);
  CHECK(is_whole(*found, 1));
  CHECK(found->origin_name == 42);
  CHECK_FALSE(other.find(key_of(2), kNow));
  CHECK_FALSE(other.find({key_of(1).hash, Slice::copy_of("another")}, kNow));
  CHECK(other.entries() == 1);
  CHECK_FALSE(other.find(key_of(1), kNow + milliseconds(60'000)));
  CHECK(one.entries() == 0);
  CHECK_FALSE(one.put(self_telling(1, 5, 1000), 42, kNow + milliseconds(60'000)));
}

TEST_CASE("people find by the hash alone what is of use, and nothing that is not") {
  Memory memory(4 * MiB);
  SharedTier one = memory.attach();
  const SharedTier other = memory.attach();
  CHECK_FALSE(other.look(key_of(1).hash, kNow));
  CHECK(one.put(self_telling(1, 5, 1000), 42, kNow));
  const auto seen = other.look(key_of(1).hash, kNow);
  REQUIRE(seen);
  CHECK(is_whole(*seen, 1));
  CHECK(seen->kept.key.text.text() == key_of(1).text.text());
  CHECK_FALSE(other.look(key_of(2).hash, kNow));
  CHECK_FALSE(other.look(key_of(1).hash, kNow + milliseconds(60'000)));
}

TEST_CASE("the later of two replies to the same is found, and an erased one is not") {
  Memory memory(4 * MiB);
  SharedTier one = memory.attach();
  SharedTier other = memory.attach();
  for (uint64_t version = 1; version <= 20; ++version) {
    SharedTier& tier = version % 2 == 0 ? one : other;
    CHECK(tier.put(self_telling(1, version, 100 * version), 0, kNow));
    const auto found = one.find(key_of(1), kNow);
    REQUIRE(found);
    CHECK(is_whole(*found, 1));
    CHECK(found->kept.since == version);
  }
  CHECK(one.entries() == 1);
  other.erase(key_of(1));
  CHECK_FALSE(one.find(key_of(1), kNow));
  CHECK(one.entries() == 0);
  CHECK(one.counts().evicted + other.counts().evicted == 0);
}

TEST_CASE("a key that shares its place in the index with another costs that its entry, not its truth") {
  Memory memory(4 * MiB);
  SharedTier tier = memory.attach();
  Kept twin = self_telling(1, 1, 100);
  twin.key.text = Slice::copy_of("a twin");
  tier.put(self_telling(1, 1, 100), 0, kNow);
  tier.put(twin, 0, kNow);
  CHECK_FALSE(tier.find(key_of(1), kNow));
  CHECK(tier.find(twin.key, kNow));
}

TEST_CASE("a reply larger than half a segment is refused, and the largest that is not is found") {
  Memory memory(4 * MiB);
  SharedTier tier = memory.attach();
  const size_t overhead = kept_form_bytes(self_telling(1, 1, 64)) - 64;
  CHECK(tier.put(self_telling(1, 1, tier.entry_bytes_max() - overhead), 0, kNow));
  CHECK_FALSE(tier.put(self_telling(2, 1, tier.entry_bytes_max() - overhead + 1), 0, kNow));
  CHECK(tier.counts().refused == 1);
  const auto found = tier.find(key_of(1), kNow);
  REQUIRE(found);
  CHECK(is_whole(*found, 1));
  for (uint64_t number = 10; number < 1000; ++number) {
    REQUIRE(tier.put(self_telling(number, 1, tier.entry_bytes_max() - overhead - 8), 0, kNow));
    REQUIRE(is_whole(tier.find(key_of(number), kNow).value(), number));
  }
}

TEST_CASE("it is never larger than its region, and what is found in it is whole") {
  Memory memory(6 * MiB);
  SharedTier one = memory.attach();
  SharedTier other = memory.attach();
  Prng prng(3);
  uint64_t found_count = 0;
  for (uint64_t i = 0; i < 30'000; ++i) {
    SharedTier& tier = prng.below(2) == 0 ? one : other;
    const uint64_t number = prng.below(3000);
    tier.put(self_telling(number, i, 64 + prng.below(prng.below(10) == 0 ? 30'000 : 2'000)), 0, kNow);
    const uint64_t asked = prng.below(3000);
    const auto found = other.find(key_of(asked), kNow);
    if (found) REQUIRE(is_whole(*found, asked));
    found_count += found ? 1 : 0;
  }
  CHECK(found_count > 3'000);
  CHECK(one.counts().evicted > 1'000);
  CHECK(one.counts().torn + other.counts().torn == 0);
  CHECK(one.held_bytes() <= 6 * MiB);
  CHECK(one.reserved_bytes() <= 6 * MiB);
  CHECK(one.entries() <= 3000);
  CHECK(one.entries() > 500);
  MESSAGE(one.entries(), " entries, ", found_count, " of 30000 found");
}

TEST_CASE("what is asked for stays while a stream of others passes, and nothing else does") {
  Memory memory(4 * MiB);
  SharedTier tier = memory.attach();
  SharedTier reader = memory.attach();
  for (uint64_t number = 0; number < 100; ++number) tier.put(self_telling(number, 1, 1000), 0, kNow);
  size_t misses = 0;
  for (uint64_t scan = 1'000; scan < 21'000; ++scan) {
    tier.put(self_telling(scan, 1, 1000), 0, kNow);
    const uint64_t asked = scan % 50;
    if (reader.find(key_of(asked), kNow)) continue;
    ++misses;
    tier.put(self_telling(asked, 2, 1000), 0, kNow);
  }
  // All of them lay in one segment, of which half is carried over.
  CHECK(misses < 50);
  for (uint64_t number = 50; number < 100; ++number) CHECK_FALSE(reader.find(key_of(number), kNow));
  CHECK(tier.counts().carried_over >= 50);
  MESSAGE(tier.counts().carried_over, " carried over, ", misses, " misses");
}

TEST_CASE("what has been asked for once does not stay for ever") {
  Memory memory(4 * MiB);
  SharedTier tier = memory.attach();
  tier.put(self_telling(1, 1, 1000), 0, kNow);
  CHECK(tier.find(key_of(1), kNow));
  for (uint64_t scan = 1'000; scan < 21'000; ++scan) tier.put(self_telling(scan, 1, 1000), 0, kNow);
  CHECK_FALSE(tier.find(key_of(1), kNow));
}

TEST_CASE("if all is asked for, what comes is kept all the same") {
  Memory memory(4 * MiB);
  SharedTier tier = memory.attach();
  for (uint64_t number = 0; number < 20'000; ++number) {
    REQUIRE(tier.put(self_telling(number, 1, 1000), 0, kNow));
    for (uint64_t back = 0; back < 3; ++back) {
      const uint64_t asked = number - std::min(number, back);
      REQUIRE(tier.find(key_of(asked), kNow));
    }
  }
  CHECK(tier.counts().carried_over > 1'000);
}

TEST_CASE("bytes that changed where they lie are a miss, are counted, and do not stand in the way") {
  Memory memory(4 * MiB);
  SharedTier tier = memory.attach();
  tier.put(self_telling(1, 1, 1000), 0, kNow);
  const size_t at = SharedLayout(4 * MiB).segment_at(0) + 700;
  memory.bytes()[at] ^= std::byte{1};
  CHECK_FALSE(tier.find(key_of(1), kNow));
  CHECK(tier.counts().torn == 1);
  CHECK_FALSE(tier.find(key_of(1), kNow));
  CHECK(tier.counts().torn == 1);
  CHECK(tier.put(self_telling(1, 2, 1000), 0, kNow));
  CHECK(tier.find(key_of(1), kNow));
}

TEST_CASE("a region full of anything gives misses and takes replies") {
  Memory memory(4 * MiB);
  Prng prng(5);
  for (uint64_t round = 0; round < 20; ++round) {
    SharedTier tier = memory.attach();
    for (uint64_t number = 0; number < 300; ++number) tier.put(self_telling(number, 1, 1000), 0, kNow);
    // All but the head: words of noise, or copies of words that mean something elsewhere.
    const size_t words = 4 * MiB / 8;
    for (int i = 0; i < 200'000; ++i) {
      const size_t at = 32 + prng.below(words - 32);
      memory.words[at] = prng.below(2) == 0 ? prng.next() : memory.words[prng.below(words)];
    }
    for (uint64_t number = 0; number < 600; ++number) {
      const auto found = tier.find(key_of(number), kNow);
      if (found) REQUIRE(is_whole(*found, number));
      tier.put(self_telling(number, 2, 500), 0, kNow);
      tier.witness(number);
    }
    tier.entries();
  }
}

TEST_CASE("a region of another layout or size is refused, and the first says which book it is") {
  Memory memory(8 * MiB);
  CHECK(memory.attach(7).book_id() == 7);
  CHECK(memory.attach(8).book_id() == 7);
  const auto halved = SharedTier::attach(memory.bytes().first(4 * MiB), memory, 9);
  REQUIRE_FALSE(halved.has_value());
  CHECK(halved.error().code == Code::kInvalid);
  CHECK_FALSE(SharedTier::attach(memory.bytes().first(1 * MiB), memory, 9).has_value());
  memory.words[0] += 1;
  const auto newer = SharedTier::attach(memory.bytes(), memory, 9);
  REQUIRE_FALSE(newer.has_value());
  CHECK(newer.error().code == Code::kInvalid);
}

TEST_CASE("a layout fits into its region, whatever its size") {
  Prng prng(11);
  for (int i = 0; i < 100'000; ++i) {
    const size_t bytes = (kSharedRegionBytesMin +
                          prng.below(prng.below(2) == 0 ? 64 * MiB : kSharedRegionBytesMax - kSharedRegionBytesMin)) /
                         4096 * 4096;
    const SharedLayout layout(bytes);
    REQUIRE(layout.segment_at(layout.segments()) <= bytes);
    REQUIRE(bytes - layout.segment_at(layout.segments()) <= layout.segment_bytes() + 64 * KiB);
    REQUIRE(layout.segments() >= 32);
    REQUIRE(layout.segments() <= 65'536);
  }
}

TEST_CASE("without memory puts are refused, with some the ring is smaller, and it grows when memory comes") {
  Memory memory(4 * MiB);
  const SharedLayout layout(4 * MiB);
  memory.bytes_allowed = layout.segments_at() - 1;
  const auto none = SharedTier::attach(memory.bytes(), memory, 1);
  REQUIRE_FALSE(none.has_value());
  CHECK(none.error().code == Code::kStorage);

  memory.bytes_allowed = layout.segments_at();
  SharedTier tier = memory.attach();
  CHECK_FALSE(tier.put(self_telling(1, 1, 1000), 0, kNow));
  const size_t asked = memory.refusals;
  for (int i = 0; i < 100; ++i) CHECK_FALSE(tier.put(self_telling(1, 1, 1000), 0, kNow));
  CHECK(memory.refusals == asked);  // not at every put
  CHECK(tier.counts().refused == 101);

  memory.bytes_allowed = layout.segment_at(3);
  const Instant later = kNow + milliseconds(500);
  for (uint64_t number = 0; number < 5'000; ++number) {
    REQUIRE(tier.put(self_telling(number, 1, 1000), 0, later));
    REQUIRE(tier.find(key_of(number), later));
  }
  CHECK(tier.counts().unbacked == 2);
  CHECK(tier.reserved_bytes() == layout.segment_at(3));

  memory.bytes_allowed = 4 * MiB;
  const Instant last = kNow + milliseconds(1000);
  for (uint64_t number = 0; number < 5'000; ++number) REQUIRE(tier.put(self_telling(number, 1, 1000), 0, last));
  CHECK(tier.reserved_bytes() == layout.segment_at(layout.segments()));
}

TEST_CASE("all share one book of purges and the notes on other sidecars") {
  Memory memory(4 * MiB);
  SharedTier one = memory.attach();
  SharedTier other = memory.attach();
  Purges purges(one.purge_words());
  purges.purge(5);
  CHECK(Purges(other.purge_words()).position() == 1);

  auto witness = one.witness(77);
  auto same = other.witness(77);
  REQUIRE((witness && same));
  CHECK_FALSE(same->known());
  std::optional<uint64_t> expected;
  CHECK(witness->exchange_known(expected, 0));
  CHECK(same->known() == 0);
  CHECK_FALSE(same->exchange_known(expected, 9));
  CHECK(expected == 0);
  CHECK(same->exchange_known(expected, 9));
  CHECK(witness->known() == 9);
  witness->set_known(std::nullopt);
  CHECK_FALSE(same->known());
  CHECK_FALSE(one.witness(78)->known());

  witness->begin_writing(kNow + milliseconds(100));
  witness->begin_writing(kNow + milliseconds(50));
  CHECK(same->writing() == 2);
  CHECK(same->is_writing(kNow + milliseconds(99)));
  same->end_writing();
  CHECK(witness->is_writing(kNow));
  // Whoever began the other was killed.
  CHECK_FALSE(witness->is_writing(kNow + milliseconds(101)));
}

TEST_CASE("a count of calls under way that cannot be is ended at once, too") {
  Memory memory(4 * MiB);
  SharedTier one = memory.attach();
  auto witness = one.witness(7);
  REQUIRE(witness);
  witness->begin_writing(kNow + milliseconds(100));
  for (int i = 0; i < 3; ++i) witness->end_writing();  // as after memory that was emptied under somebody's feet
  CHECK(witness->writing() > uint64_t{1} << 60);
  witness->forget_writing();
  CHECK(witness->writing() == 0);
}

TEST_CASE("there are notes on 256 sidecars at most") {
  Memory memory(4 * MiB);
  SharedTier tier = memory.attach();
  for (uint64_t name = 1; name <= kWitnesses; ++name) REQUIRE(tier.witness(name * 1'000'003)->known() == std::nullopt);
  CHECK_FALSE(tier.witness(1));
  CHECK(tier.witness(1'000'003));
}

}  // namespace
}  // namespace mesh::cache
