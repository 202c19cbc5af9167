#include "common/telemetry/histogram.h"

#include <algorithm>
#include <cmath>

namespace mesh::telemetry {

// The least of the values that share a mark.
uint64_t Histogram::start_of(size_t mark) {
  if (mark < 2 * kMarksPerOctave) return mark;
  const size_t shift = mark / kMarksPerOctave - 1;
  return uint64_t{mark - shift * kMarksPerOctave} << shift;
}

uint64_t Histogram::value_of(size_t mark) { return (start_of(mark) + start_of(mark + 1)) / 2; }

void Histogram::record_first(uint64_t value) {
  counts_.resize(kMarks);
  record(value);
}

uint64_t Histogram::quantile(double fraction) const {
  if (count_ == 0) return 0;
  const double within = fraction >= 0 ? std::min(fraction, 1.0) : 0;  // not a number counts as 0
  // 0.07 × 100 is a little more than 7 in binary, and must not ask for the eighth.
  const auto wanted = static_cast<uint64_t>(std::ceil(within * static_cast<double>(count_) * (1 - 1e-12)));
  uint64_t seen = 0;
  for (size_t mark = 0; mark < counts_.size(); ++mark) {
    seen += counts_[mark];
    if (seen >= wanted && seen > 0) return std::min(value_of(mark), max_);
  }
  return max_;
}

void Histogram::merge(const Histogram& other) {
  if (other.count_ == 0) return;
  if (counts_.empty()) counts_.resize(kMarks);
  for (size_t mark = 0; mark < kMarks; ++mark) counts_[mark] += other.counts_[mark];
  count_ += other.count_;
  sum_ += other.sum_;
  max_ = std::max(max_, other.max_);
}

Histogram Histogram::since(const Histogram& earlier) const {
  // Fewer than before: the process behind it was restarted, and all of it is new.
  if (earlier.count_ == 0 || count_ < earlier.count_ || sum_ < earlier.sum_) return *this;
  Histogram difference = *this;
  uint64_t end = 0;
  for (size_t mark = 0; mark < counts_.size(); ++mark) {
    if (counts_[mark] < earlier.counts_[mark]) return *this;
    difference.counts_[mark] -= earlier.counts_[mark];
    if (difference.counts_[mark] != 0) end = start_of(mark + 1) - 1;
  }
  difference.count_ -= earlier.count_;
  difference.sum_ -= earlier.sum_;
  if (max_ <= earlier.max_) difference.max_ = std::min(max_, end);
  return difference;
}

bool Histogram::add(size_t mark, uint64_t count) {
  if (mark >= kMarks) return false;
  if (counts_.empty()) counts_.resize(kMarks);
  counts_[mark] += count;
  count_ += count;
  sum_ += value_of(mark) * count;
  max_ = std::max(max_, value_of(mark));
  return true;
}

}  // namespace mesh::telemetry
