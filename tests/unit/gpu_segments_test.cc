#include <doctest/doctest.h>

#include "common/gpu/segments.h"

namespace mesh::gpu {
namespace {

const Instant kNow{milliseconds(1'000'000)};

LeaseId id_of(uint64_t number) { return {number, number}; }
SegmentKey key_of(uint64_t number) { return {id_of(number), id_of(1), 0}; }

struct Shelf {
  Segments segments;
  Worth worth;

  Segment& loading(uint64_t number, LeaseId writer, Units units = 100) {
    return *segments.create(key_of(number), id_of(1000 + number), units, writer, 1, kNow);
  }
  // Loaded, and nobody uses it any more.
  void idle(uint64_t number, Units units, int64_t load_ms) {
    Segment& segment = loading(number, id_of(500), units);
    std::vector<LeaseId> ready;
    segments.seal(segment, id_of(500), worth, kNow + milliseconds(load_ms), ready);
    segments.leave(segment, id_of(500), worth, kNow);
  }
};

TEST_CASE("all who ask for the same wait for one load, and map it when it is sealed") {
  Shelf shelf;
  Segment& segment = shelf.loading(1, id_of(1));
  CHECK(shelf.segments.join(segment, id_of(2), 1, shelf.worth) == Segments::Joined::kWaits);
  CHECK(shelf.segments.join(segment, id_of(3), 1, shelf.worth) == Segments::Joined::kWaits);
  std::vector<LeaseId> ready;
  CHECK_FALSE(shelf.segments.seal(segment, id_of(2), shelf.worth, kNow, ready));  // not the writer
  CHECK(shelf.segments.seal(segment, id_of(1), shelf.worth, kNow + milliseconds(4000), ready));
  CHECK(ready == std::vector<LeaseId>{id_of(2), id_of(3)});
  CHECK(segment.users.size() == 3);
  CHECK(segment.load_time == milliseconds(4000));
  CHECK(shelf.segments.join(segment, id_of(4), 1, shelf.worth) == Segments::Joined::kShares);
  CHECK_FALSE(shelf.segments.seal(segment, id_of(1), shelf.worth, kNow, ready));  // once
}

TEST_CASE("another layout or another card is another segment") {
  Shelf shelf;
  shelf.loading(1, id_of(1));
  SegmentKey other = key_of(1);
  other.layout = id_of(2);
  CHECK(shelf.segments.find(other) == nullptr);
  other = key_of(1);
  other.gpu = 1;
  CHECK(shelf.segments.find(other) == nullptr);
}

TEST_CASE("when the writer hangs up nobody else writes before its process is gone") {
  Shelf shelf;
  Segment& segment = shelf.loading(1, id_of(1));
  shelf.segments.join(segment, id_of(2), 1, shelf.worth);
  shelf.segments.leave(segment, id_of(1), shelf.worth, kNow);
  CHECK(segment.state == SegmentState::kAbandoned);
  std::vector<LeaseId> ready;
  CHECK_FALSE(shelf.segments.seal(segment, id_of(1), shelf.worth, kNow, ready));
  CHECK(shelf.segments.join(segment, id_of(3), 1, shelf.worth) == Segments::Joined::kWaits);
  CHECK(shelf.segments.promote(segment, kNow) == id_of(2));
  CHECK(shelf.segments.seal(segment, id_of(2), shelf.worth, kNow, ready));
  CHECK(ready == std::vector<LeaseId>{id_of(3)});
}

TEST_CASE("an unfinished load that nobody waits for is of no use") {
  Shelf shelf;
  Segment& segment = shelf.loading(1, id_of(1));
  shelf.segments.join(segment, id_of(2), 1, shelf.worth);
  shelf.segments.leave(segment, id_of(2), shelf.worth, kNow);
  shelf.segments.leave(segment, id_of(1), shelf.worth, kNow);
  CHECK_FALSE(shelf.segments.promote(segment, kNow));
  shelf.segments.erase(segment.id);
  CHECK(shelf.segments.find(key_of(1)) == nullptr);
}

TEST_CASE("it is idle when the last connection is closed, whoever that is, and used again by the next") {
  Shelf shelf;
  Segment& segment = shelf.loading(1, id_of(1));
  std::vector<LeaseId> ready;
  shelf.segments.seal(segment, id_of(1), shelf.worth, kNow, ready);
  shelf.segments.join(segment, id_of(2), 1, shelf.worth);
  shelf.segments.leave(segment, id_of(1), shelf.worth, kNow);
  shelf.segments.leave(segment, id_of(1), shelf.worth, kNow);  // twice is once
  CHECK(segment.state == SegmentState::kSealed);
  shelf.segments.leave(segment, id_of(2), shelf.worth, kNow);
  CHECK(segment.state == SegmentState::kIdle);
  CHECK(shelf.segments.idle_units(0) == 100);
  CHECK(shelf.segments.join(segment, id_of(3), 1, shelf.worth) == Segments::Joined::kShares);
  CHECK(shelf.segments.idle_units(0) == 0);
}

TEST_CASE("of the idle that goes first which is cheapest to have again, and none while there is room") {
  Shelf shelf;
  shelf.idle(1, 100, 9000);
  shelf.idle(2, 100, 1000);
  shelf.idle(3, 100, 5000);
  CHECK(shelf.segments.surplus(0, 300) == nullptr);
  REQUIRE(shelf.segments.surplus(0, 299) != nullptr);
  CHECK(shelf.segments.surplus(0, 299)->key == key_of(2));
  CHECK(shelf.segments.surplus(1, 0) == nullptr);
}

TEST_CASE("segments and their users are bounded") {
  Shelf shelf;
  Segment& segment = shelf.loading(1, id_of(1));
  for (uint64_t i = 0; i < bounds::segment_users_max; ++i) {
    REQUIRE(shelf.segments.join(segment, id_of(10 + i), 1, shelf.worth) == Segments::Joined::kWaits);
  }
  CHECK(shelf.segments.join(segment, id_of(9999), 1, shelf.worth) == Segments::Joined::kFull);
  for (uint64_t i = 2; i <= bounds::segments_max; ++i) shelf.loading(i, id_of(1));
  CHECK(shelf.segments.create(key_of(9999), id_of(9999), 1, id_of(1), 1, kNow) == nullptr);
}

}  // namespace
}  // namespace mesh::gpu
