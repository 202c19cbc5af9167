#include "common/gpu/extents.h"

#include <algorithm>

#include "common/base/check.h"

namespace mesh::gpu {

Units Extents::units() const {
  Units sum = 0;
  for (size_t i = 0; i < kExtentSizes; ++i) sum += kExtentUnits[i] * count[i];
  return sum;
}

Extents& Extents::operator+=(const Extents& other) {
  for (size_t i = 0; i < kExtentSizes; ++i) count[i] += other.count[i];
  return *this;
}

Extents& Extents::operator-=(const Extents& other) {
  MESH_CHECK(contains(other));
  for (size_t i = 0; i < kExtentSizes; ++i) count[i] -= other.count[i];
  return *this;
}

bool Extents::contains(const Extents& other) const {
  for (size_t i = 0; i < kExtentSizes; ++i) {
    if (count[i] < other.count[i]) return false;
  }
  return true;
}

Extents extents_of(Units units) {
  Extents made;
  for (size_t i = 0; i < kExtentSizes; ++i) {
    made.count[i] = static_cast<uint32_t>(units / kExtentUnits[i]);
    units %= kExtentUnits[i];
  }
  return made;
}

std::optional<ExtentPlan> ExtentPool::take(Units units, Units room) {
  MESH_CHECK(units > 0);
  ExtentPlan plan;
  plan.take = extents_of(units);
  Extents missing = plan.take;
  for (size_t i = 0; i < kExtentSizes; ++i) missing.count[i] -= std::min(missing.count[i], free_.count[i]);
  Extents ready = plan.take;
  ready -= missing;
  const Units short_of = missing.units() - std::max<Units>(room, 0);
  if (short_of > free_.units() - ready.units()) return std::nullopt;
  free_ -= ready;
  plan.create = missing;
  if (short_of > 0) {
    plan.release = trim(short_of);
    // The change of a broken one.
    const Extents change = extents_of(plan.release.units() - short_of);
    plan.create += change;
    free_ += change;
  }
  return plan;
}

void ExtentPool::lose(const Extents& extents) {
  for (size_t i = 0; i < kExtentSizes; ++i) free_.count[i] -= std::min(free_.count[i], extents.count[i]);
}

// The smallest that does it alone, otherwise the largest first: few calls to the driver.
Extents ExtentPool::trim(Units units) {
  Extents gone;
  while (units > 0 && free_.total() > 0) {
    size_t chosen = kExtentSizes;
    for (size_t i = 0; i < kExtentSizes; ++i) {
      if (free_.count[i] == 0) continue;
      if (chosen == kExtentSizes || kExtentUnits[i] >= units) chosen = i;
    }
    --free_.count[chosen];
    ++gone.count[chosen];
    units -= kExtentUnits[chosen];
  }
  return gone;
}

}  // namespace mesh::gpu
