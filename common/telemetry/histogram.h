// How often which duration came, in little memory and exactly mergeable.
//
// A ruler whose marks get coarser the longer it is: 64 marks between each power of two and the next, so a value is
// known to within 1 part in 128, be it 100 us or 100 s. Two rulers with the same marks can be added mark by mark, which
// percentiles cannot. (After HdrHistogram, hdrhistogram.org.)
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace mesh::telemetry {

class Histogram {
 public:
  // Larger values count as this one: 19 hours in microseconds.
  static constexpr uint64_t kValueMax = (uint64_t{1} << 36) - 1;

  // The memory, 16 KiB, comes with the first value.
  void record(uint64_t value) {
    if (counts_.empty()) [[unlikely]]
      return record_first(value);
    value = std::min(value, kValueMax);
    ++counts_[mark_of(value)];
    ++count_;
    sum_ += value;
    max_ = std::max(max_, value);
  }

  uint64_t count() const { return count_; }
  uint64_t sum() const { return sum_; }
  uint64_t max() const { return max_; }
  // The value of rank ⌈fraction × count⌉, at least the first, off by at most 1 %; 0 if there are none. A fraction
  // outside 0 to 1 counts as the nearer of them.
  uint64_t quantile(double fraction) const;

  // As if everything recorded there had been recorded here.
  void merge(const Histogram& other);
  // What was recorded after `earlier`, a former state of this. If it cannot be one (some mark of it has more: the
  // process behind it was restarted), all of this is new. Its max is exact if it rose since then, else the end of the
  // highest mark.
  Histogram since(const Histogram& earlier) const;

  // Calls visit(mark, count) for each mark that has values, from low to high.
  template <class Visit>
  void for_each(Visit visit) const {
    for (size_t mark = 0; mark < counts_.size(); ++mark) {
      if (counts_[mark] != 0) visit(mark, counts_[mark]);
    }
  }
  // Rebuilds one from what for_each gave; false, and nothing changes, if there is no such mark. Sum and max are then
  // known only as well as the marks: set_totals() gives the true ones.
  bool add(size_t mark, uint64_t count);
  void set_totals(uint64_t sum, uint64_t max) { sum_ = sum, max_ = max; }
  // The middle of the values that share a mark.
  static uint64_t value_of(size_t mark);

 private:
  static constexpr unsigned kMarkBits = 6;
  static constexpr size_t kMarksPerOctave = size_t{1} << kMarkBits;
  static constexpr size_t kMarks = (36 - kMarkBits + 1) * kMarksPerOctave;

  static uint64_t start_of(size_t mark);
  [[gnu::cold]] void record_first(uint64_t value);

  // Below 128 each value has its own mark; above, the leading 7 bits count.
  static size_t mark_of(uint64_t value) {
    const unsigned width = static_cast<unsigned>(std::bit_width(value | (kMarksPerOctave * 2 - 1)));
    const unsigned shift = width - (kMarkBits + 1);
    return shift * kMarksPerOctave + static_cast<size_t>(value >> shift);
  }

  std::vector<uint64_t> counts_;
  uint64_t count_ = 0;
  uint64_t max_ = 0;
  uint64_t sum_ = 0;
};

}  // namespace mesh::telemetry
