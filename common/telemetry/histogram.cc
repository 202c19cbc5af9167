#include "common/telemetry/histogram.h"

#include <algorithm>
#include <cmath>

namespace mesh::telemetry {

uint64_t Histogram::value_of(size_t mark) {
  if (mark < 2 * kMarksPerOctave) return mark;
  const size_t shift = mark / kMarksPerOctave - 1;
  const uint64_t low = uint64_t{mark - shift * kMarksPerOctave} << shift;
  return low + (uint64_t{1} << (shift - 1));
}

uint64_t Histogram::quantile(double fraction) const {
  if (count_ == 0) return 0;
  const auto wanted = static_cast<uint64_t>(std::ceil(std::clamp(fraction, 0.0, 1.0) * static_cast<double>(count_)));
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
  Histogram difference = *this;
  if (earlier.count_ == 0) return difference;
  for (size_t mark = 0; mark < difference.counts_.size(); ++mark) {
    // Fewer than before: the process behind it was restarted, and all of it is new.
    if (difference.counts_[mark] < earlier.counts_[mark]) return *this;
    difference.counts_[mark] -= earlier.counts_[mark];
  }
  difference.count_ -= earlier.count_;
  difference.sum_ -= std::min(difference.sum_, earlier.sum_);
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
