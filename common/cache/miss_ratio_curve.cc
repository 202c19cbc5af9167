#include "common/cache/miss_ratio_curve.h"

#include <algorithm>
#include <cmath>

namespace mesh::cache {
namespace {

constexpr uint64_t kUnitBytes = 16;
constexpr double kFirstStepBytes = 1024;
// When so many were seen, all that was counted is halved.
constexpr uint64_t kAccessesMax = uint64_t{1} << 21;

uint32_t units_of(uint64_t bytes) {
  return static_cast<uint32_t>(std::min<uint64_t>((bytes + kUnitBytes - 1) / kUnitBytes, UINT32_MAX));
}

}  // namespace

MissRatioCurve::MissRatioCurve(uint64_t bytes_max)
    : bytes_max_(bytes_max),
      samples_(kSamplesMax),
      index_(kIndexMask + 1, kNone),
      by_turn_(kTurns, kNone),
      tree_(kTurns + 1) {
  free_.reserve(kSamplesMax);
  for (uint32_t slot = kSamplesMax; slot-- > 0;) free_.push_back(static_cast<uint16_t>(slot));
}

double MissRatioCurve::hit_ratio(uint64_t bytes) const {
  if (accesses_ == 0) return 0;
  const double at = std::max(0.0, kStepsPerDoubling * std::log2(static_cast<double>(bytes) / kFirstStepBytes));
  const auto whole = std::min(static_cast<uint32_t>(at), kSteps - 1);
  double hits = 0;
  for (uint32_t step = 0; step <= whole; ++step) hits += hits_[step];
  if (whole + 1 < kSteps) hits += (at - whole) * hits_[whole + 1];
  const auto accesses = static_cast<double>(accesses_);
  // A key that is asked for very often is sampled or not: either way it would be hit in any memory.
  return std::clamp((hits + accesses - counted_) / accesses, 0.0, 1.0);
}

uint64_t MissRatioCurve::held_bytes() const {
  return sizeof(*this) + samples_.capacity() * sizeof(Sample) + tree_.capacity() * sizeof(uint64_t) +
         (free_.capacity() + index_.capacity() + by_turn_.capacity()) * sizeof(uint16_t);
}

void MissRatioCurve::on_sampled(uint64_t place, uint64_t bytes, bool is_compulsory) {
  if (accesses_ >= kAccessesMax) forget_half();
  counted_ += 1 / sampling_rate();
  if (next_turn_ == kTurns) number_anew();
  uint16_t slot = index_[find(place)];
  if (slot == kNone) {
    if (free_.empty()) sample_less();
    if (place > sampled_below_) return;
    slot = add(place);
  } else {
    if (!is_compulsory) count_hit(distance_bytes(samples_[slot]));
    leave_turn(samples_[slot]);
  }
  take_turn(slot, bytes);
  drop_out_of_reach();
}

uint64_t MissRatioCurve::distance_bytes(const Sample& sample) const {
  const auto between = static_cast<double>((units_ - units_until(sample.turn)) * kUnitBytes);
  return static_cast<uint64_t>(between / sampling_rate()) + sample.units * kUnitBytes;
}

void MissRatioCurve::count_hit(uint64_t needed_bytes) {
  const double at = kStepsPerDoubling * std::log2(static_cast<double>(needed_bytes) / kFirstStepBytes);
  hits_[static_cast<size_t>(std::clamp(std::ceil(at), 0.0, kSteps - 1.0))] += 1 / sampling_rate();
}

uint16_t MissRatioCurve::add(uint64_t place) {
  const uint16_t slot = free_.back();
  free_.pop_back();
  samples_[slot].place = place;
  index_[find(place)] = slot;
  return slot;
}

void MissRatioCurve::drop(uint16_t slot) {
  leave_turn(samples_[slot]);
  erase_from_index(find(samples_[slot].place));
  free_.push_back(slot);
}

void MissRatioCurve::take_turn(uint16_t slot, uint64_t bytes) {
  Sample& sample = samples_[slot];
  sample.units = units_of(bytes);
  sample.turn = next_turn_++;
  by_turn_[sample.turn] = slot;
  units_ += sample.units;
  add_units(sample.turn, sample.units);
}

void MissRatioCurve::leave_turn(const Sample& sample) {
  by_turn_[sample.turn] = kNone;
  units_ -= sample.units;
  add_units(sample.turn, -uint64_t{sample.units});
}

// An eighth less, and whoever is in that eighth goes.
void MissRatioCurve::sample_less() {
  while (free_.empty()) {
    sampled_below_ -= sampled_below_ / 8;
    for (uint32_t turn = 0; turn < next_turn_; ++turn) {
      const uint16_t slot = by_turn_[turn];
      if (slot != kNone && samples_[slot].place > sampled_below_) drop(slot);
    }
  }
}

// What no size would have kept is as if it had never been asked for.
void MissRatioCurve::drop_out_of_reach() {
  for (; oldest_turn_ + 1 < next_turn_; ++oldest_turn_) {
    const uint16_t slot = by_turn_[oldest_turn_];
    if (slot == kNone) continue;
    if (distance_bytes(samples_[slot]) <= bytes_max_) return;
    drop(slot);
  }
}

void MissRatioCurve::number_anew() {
  uint32_t turns = 0;
  for (uint32_t turn = 0; turn < next_turn_; ++turn) {
    const uint16_t slot = by_turn_[turn];
    if (slot == kNone) continue;
    by_turn_[turn] = kNone;
    by_turn_[turns] = slot;
    samples_[slot].turn = turns++;
  }
  std::fill(tree_.begin(), tree_.end(), 0);
  for (uint32_t turn = 0; turn < turns; ++turn) add_units(turn, samples_[by_turn_[turn]].units);
  next_turn_ = turns;
  oldest_turn_ = 0;
}

void MissRatioCurve::forget_half() {
  accesses_ /= 2;
  counted_ /= 2;
  for (double& hits : hits_) hits /= 2;
}

uint32_t MissRatioCurve::find(uint64_t place) const {
  // The lower bits: the upper ones are alike in all that is sampled.
  auto at = static_cast<uint32_t>(place >> 8) & kIndexMask;
  while (index_[at] != kNone && samples_[index_[at]].place != place) at = (at + 1) & kIndexMask;
  return at;
}

// Who stands behind it because its own place was taken moves up.
void MissRatioCurve::erase_from_index(uint32_t at) {
  uint32_t hole = at;
  for (uint32_t next = (hole + 1) & kIndexMask; index_[next] != kNone; next = (next + 1) & kIndexMask) {
    const auto wanted = static_cast<uint32_t>(samples_[index_[next]].place >> 8) & kIndexMask;
    if (((next - wanted) & kIndexMask) < ((next - hole) & kIndexMask)) continue;
    index_[hole] = index_[next];
    hole = next;
  }
  index_[hole] = kNone;
}

void MissRatioCurve::add_units(uint32_t turn, uint64_t units) {
  for (uint32_t at = turn + 1; at <= kTurns; at += at & -at) tree_[at] += units;
}

uint64_t MissRatioCurve::units_until(uint32_t turn) const {
  uint64_t units = 0;
  for (uint32_t at = turn + 1; at > 0; at -= at & -at) units += tree_[at];
  return units;
}

}  // namespace mesh::cache
