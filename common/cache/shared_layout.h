// What lies where in a region of shared memory. It follows from the size of the region alone, so that whoever comes
// first and is killed half way leaves nothing half made: a region of zeros is an empty one.
//
//   head | book of purges | witnesses | flights | a word or more on each segment | index | segments
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "common/base/limits.h"
#include "common/cache/purges.h"
#include "common/cache/shared_flights.h"

namespace mesh::cache {

// Raised with any change of what lies where, or of what it means.
inline constexpr uint64_t kSharedLayoutVersion = 3;
inline constexpr size_t kSharedRegionBytesMin = 4 * limits::MiB;
inline constexpr size_t kSharedRegionBytesMax = size_t{64} << 30;

struct SharedHead {
  uint64_t magic;  // and layout version; 0: nobody was here yet
  uint64_t region_bytes;
  uint64_t book_id;
  uint64_t unused[5];
  uint64_t next_ticket;  // of the ring of segments; in a line of its own
  uint64_t unused_too[7];
};
static_assert(sizeof(SharedHead) == 128);

// A sidecar of another host, or of this, as all on this host know it together.
struct WitnessWords {
  uint64_t name;           // 0: free
  uint64_t known;          // position + 1; 0: nothing is known
  uint64_t noting;         // likewise: up to where somebody has begun to note
  uint64_t writing;        // calls that make replies wrong
  uint64_t writing_until;  // microseconds
};
inline constexpr size_t kWitnesses = 256;

// Of one segment. Whoever has a ticket of the ring may write to the segment that the ticket falls on.
struct SegmentWords {
  uint64_t is_reserved;  // its pages are there
  uint64_t holder;       // ticket + 1 of who took it last
  uint64_t live;         // ticket + 1 of whose entries lie there; behind holder while these are still carried over
  uint64_t entries;      // about how many of these are found
  uint64_t bytes;        // that they take, with those that are found no more
  uint64_t unused[3];    // each in a line of its own
};

class SharedLayout {
 public:
  static constexpr size_t kUnitBytes = 64;  // entries begin at multiples of it
  static constexpr size_t kSlotsPerBucket = 8;

  // At least kSharedRegionBytesMin, at most kSharedRegionBytesMax.
  explicit SharedLayout(size_t region_bytes)
      : segment_bytes_(std::clamp(std::bit_floor(region_bytes / 256), 64 * limits::KiB, 2 * limits::MiB)) {
    const size_t rest = region_bytes - segment_table_at();  // and two pages for what is rounded up
    // An index slot for 512 bytes: most replies are larger.
    const size_t per_segment = sizeof(SegmentWords) + segment_bytes_ / 512 * 8 + segment_bytes_;
    segments_ = (rest - 2 * kPageBytes) / per_segment;
    index_at_ = round_up(segment_table_at() + segments_ * sizeof(SegmentWords), kUnitBytes);
    buckets_ = segments_ * (segment_bytes_ / 512 / kSlotsPerBucket);
    segments_at_ = round_up(index_at_ + buckets_ * kSlotsPerBucket * 8, kPageBytes);
  }

  static constexpr size_t purges_at() { return sizeof(SharedHead); }
  static constexpr size_t witnesses_at() { return purges_at() + 8 * Purges::words_for(Purges::kSharedPlaces); }
  static constexpr size_t flights_at() { return witnesses_at() + kWitnesses * sizeof(WitnessWords); }
  static constexpr size_t segment_table_at() { return flights_at() + 8 * SharedFlights::kWords; }
  size_t index_at() const { return index_at_; }
  size_t buckets() const { return buckets_; }
  // Also what must be there from the beginning.
  size_t segments_at() const { return segments_at_; }
  size_t segments() const { return segments_; }
  size_t segment_bytes() const { return segment_bytes_; }
  size_t segment_at(size_t segment) const { return segments_at_ + segment * segment_bytes_; }
  // A segment wastes less than this at its end.
  size_t entry_bytes_max() const { return segment_bytes_ / 2; }

 private:
  static constexpr size_t kPageBytes = 4096;
  static constexpr size_t round_up(size_t bytes, size_t to) { return (bytes + to - 1) / to * to; }

  size_t segment_bytes_;
  size_t segments_ = 0;
  size_t index_at_ = 0;
  size_t buckets_ = 0;
  size_t segments_at_ = 0;
};

static_assert(sizeof(SegmentWords) == 64);
static_assert(kSharedRegionBytesMin > 4 * SharedLayout::segment_table_at());

}  // namespace mesh::cache
