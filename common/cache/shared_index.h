// Where entries lie: an index that many processes read and change at once, a word for each entry.
//
// A slot names the place of an entry and the lap of the ring in which it was written: when a segment is written anew,
// all slots that point there have become stale with that, and nobody has to look for them. A slot is only a hint:
// whoever follows it compares the whole key of what lies there.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "common/cache/request.h"
#include "common/cache/shared_layout.h"

namespace mesh::cache {

// tag 20 | lap 12 | segment 16 | unit 15 | visited 1. 0 is an empty slot: laps begin at 1.
struct Slot {
  static constexpr uint64_t kVisited = 1;

  uint64_t bits = 0;

  static Slot of(const Hash& hash, uint64_t lap, size_t segment, size_t offset) {
    const uint64_t unit = offset / SharedLayout::kUnitBytes;
    return {hash.high >> 44 << 44 | (lap % 4095 + 1) << 32 | uint64_t{segment} << 16 | unit << 1};
  }
  bool is_empty() const { return bits == 0; }
  bool is_visited() const { return (bits & kVisited) != 0; }
  bool has_tag_of(const Hash& hash) const { return !is_empty() && bits >> 44 == hash.high >> 44; }
  bool has_lap(uint64_t lap) const { return (bits >> 32 & 0xFFF) == lap % 4095 + 1; }
  size_t segment() const { return bits >> 16 & 0xFFFF; }
  size_t offset() const { return (bits >> 1 & 0x7FFF) * SharedLayout::kUnitBytes; }
  // Apart from who visited it.
  bool is_same_place(Slot other) const { return ((bits ^ other.bits) & ~kVisited) == 0; }
};

class SharedIndex {
 public:
  static constexpr size_t kWays = SharedLayout::kSlotsPerBucket;

  // `words` and `segments` outlive this.
  SharedIndex(std::span<uint64_t> words, std::span<SegmentWords> segments) : words_(words), segments_(segments) {}

  // The lap and whether the slot's entry is still there.
  bool is_live(Slot slot) const;
  // The words in which an entry with this hash may stand.
  std::span<uint64_t, kWays> bucket_of(const Hash& hash) const;

  enum class Put : uint8_t { kAdded, kReplaced, kEvicted, kOvertaken };
  // Instead of others with its tag, or in a free place, or instead of one that is dispensable. Overtaken: somebody else
  // put one with the tag at the same time.
  Put put(const Hash& hash, Slot slot);
  // Puts `to` where `from` stands. False if that is not there any more.
  static bool exchange(uint64_t& word, Slot from, Slot to);
  // The same for an entry that was copied from there.
  bool move(uint64_t& word, Slot from, Slot to);
  // Empties the word if the slot is still there.
  void drop(uint64_t& word, Slot slot);
  void erase(const Hash& hash);

 private:
  struct Choice {
    size_t way;
    Slot was;
    Put kind;
  };
  Choice choose(const Hash& hash, std::span<uint64_t, kWays> bucket) const;
  void count_out(Slot slot);

  std::span<uint64_t> words_;
  std::span<SegmentWords> segments_;
};

}  // namespace mesh::cache
