#include "common/gpu/fair_share.h"

#include <algorithm>

#include "common/base/check.h"

namespace mesh::gpu {
namespace {

constexpr double kDebt_s = 60;

double seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }

}  // namespace

void FairShare::begin(LeaseId id, Priority priority, Units units, Duration expected, Instant now) {
  const auto [at, is_new] = holds_.try_emplace(id, Hold{priority, units, now, 0, 0});
  MESH_CHECK(is_new);
  charge(at->second, static_cast<double>(units) * seconds(expected));
}

void FairShare::resize(LeaseId id, Units units, Instant now) {
  const auto found = holds_.find(id);
  MESH_CHECK(found != holds_.end());
  Hold& hold = found->second;
  hold.earlier = hold.used(now);
  // What was charged for later is of the new size, too.
  const double ahead = std::max(hold.charged - hold.earlier, 0.0);
  if (hold.units > 0) charge(hold, ahead * (static_cast<double>(units) / static_cast<double>(hold.units) - 1));
  hold.units = units;
  hold.since = now;
}

void FairShare::end(LeaseId id, Instant now) {
  const auto found = holds_.find(id);
  if (found == holds_.end()) return;
  charge(found->second, found->second.used(now) - found->second.charged);
  holds_.erase(found);
}

void FairShare::advance(Instant now) {
  for (auto& [id, hold] : holds_) charge(hold, std::max(hold.used(now) - hold.charged, 0.0));
}

void FairShare::arrive(Priority priority, const std::array<bool, kPriorities>& waiting) {
  const auto own = static_cast<size_t>(priority);
  double least = -1;
  std::array<bool, kPriorities> is_there = waiting;
  for (const auto& [id, hold] : holds_) is_there[static_cast<size_t>(hold.priority)] = true;
  for (size_t i = 0; i < kPriorities; ++i) {
    if (is_there[i] && i != own && (least < 0 || pass_[i] < least)) least = pass_[i];
  }
  if (least < 0) return;  // it is alone
  const double debt_max = kDebt_s * static_cast<double>(capacity_) / kPriorityWeights[own];
  pass_[own] = std::clamp(pass_[own], least, least + debt_max);
}

void FairShare::charge(Hold& hold, double unit_seconds) {
  hold.charged += unit_seconds;
  pass_[static_cast<size_t>(hold.priority)] += unit_seconds / weight_of(hold.priority);
}

}  // namespace mesh::gpu
