// How many of the requests would have been hits if the memory for replies were of another size.
//
// A reply is found by LRU if all that was asked for since it was last asked for, and it itself, fit into the memory. To
// add that up for every request is dear; for a share of all keys, chosen by their hash, it is not, and what lies
// between two requests for a key is then as much smaller as the share is. The share is made smaller when there are more
// keys than room for them, so memory is bounded whatever is asked for. (SHARDS with a fixed number of samples:
// Waldspurger, Park, Garthwaite, Ahmad, "Efficient MRC Construction with SHARDS", FAST 2015.) What luck chose a little
// too many or too few of is made up for among the replies asked for most, as there.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

namespace mesh::cache {

class MissRatioCurve {
 public:
  // No size above `bytes_max` will be asked for.
  explicit MissRatioCurve(uint64_t bytes_max);

  // At each request that may be answered by a kept reply; `bytes` is the reply's size in memory. `is_compulsory` where
  // what was kept of it had run out or was made wrong: a miss in memory of any size.
  void on_access(uint64_t hash, uint64_t bytes, bool is_compulsory = false) {
    ++accesses_;
    const uint64_t place = hash * kSpread;
    if (place <= sampled_below_) on_sampled(place, bytes, is_compulsory);
  }

  // The share of accesses, 0 to 1, that would have been hits in memory of so many bytes with LRU; 0 before the first.
  // Of the last million accesses or two, what was long ago counts for less and less. Sizes that differ by less than 5 %
  // are not told apart.
  double hit_ratio(uint64_t bytes) const;

  uint64_t samples() const { return samples_.size() - free_.size(); }
  // Share of the keys that are looked at, 0 to 1.
  double sampling_rate() const { return (static_cast<double>(sampled_below_) + 1) / kPlaces; }
  // Of memory, all included; does not grow after construction.
  uint64_t held_bytes() const;

 private:
  static constexpr uint64_t kSpread = 0x9E3779B97F4A7C15;  // odd: different hashes have different places
  static constexpr double kPlaces = 18446744073709551616.0;
  static constexpr uint32_t kSamplesMax = 4096;
  static constexpr uint32_t kTurns = 2 * kSamplesMax;  // until they are numbered anew
  static constexpr uint32_t kIndexBits = 13;
  static constexpr uint32_t kIndexMask = (1U << kIndexBits) - 1;
  static_assert(kIndexMask + 1 >= 2 * kSamplesMax);
  static constexpr uint16_t kNone = 0xFFFF;
  static_assert(kSamplesMax < kNone);
  // Distances are counted by sixteenths of a doubling, from 1 KiB up.
  static constexpr uint32_t kStepsPerDoubling = 16;
  static constexpr uint32_t kSteps = 40 * kStepsPerDoubling;

  struct Sample {
    uint64_t place = 0;
    uint32_t units = 0;  // of 16 bytes
    uint32_t turn = 0;
  };

  void on_sampled(uint64_t place, uint64_t bytes, bool is_compulsory);
  // Of what was asked for after the sample was, and the sample itself.
  uint64_t distance_bytes(const Sample& sample) const;
  void count_hit(uint64_t needed_bytes);
  uint16_t add(uint64_t place);
  void drop(uint16_t slot);
  void take_turn(uint16_t slot, uint64_t bytes);
  void leave_turn(const Sample& sample);
  void sample_less();
  void drop_out_of_reach();
  void number_anew();
  void forget_half();
  uint32_t find(uint64_t place) const;  // where in the index it is, or would be
  void erase_from_index(uint32_t at);
  void add_units(uint32_t turn, uint64_t units);  // modulo 2^64, so it takes away as well
  uint64_t units_until(uint32_t turn) const;      // that one included

  uint64_t bytes_max_;
  uint64_t sampled_below_ = ~uint64_t{0};
  uint64_t accesses_ = 0;
  double counted_ = 0;                 // accesses that the sampled ones stand for
  std::array<double, kSteps> hits_{};  // of them, by the size they need
  uint64_t units_ = 0;                 // of all samples
  uint32_t next_turn_ = 0;
  uint32_t oldest_turn_ = 0;
  std::vector<Sample> samples_;  // kSamplesMax
  std::vector<uint16_t> free_;
  std::vector<uint16_t> index_;    // by place
  std::vector<uint16_t> by_turn_;  // who was asked for then
  std::vector<uint64_t> tree_;  // units by turn (Fenwick, "A new data structure for cumulative frequency tables", 1994)
};

}  // namespace mesh::cache
