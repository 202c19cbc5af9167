// What processes really use of a card, held against what they were granted.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "common/gpu/units.h"

namespace mesh::gpu {

// One process on one card, as measured, and what it may have: its leases, and beside them its context.
struct ProcessUse {
  Units used = 0;
  Units leased = 0;
  Units context = 0;
  constexpr Units beyond() const { return std::max<Units>(used - leased - context, 0); }
};

// A process is let off this much: allocators round, and samples are taken in between.
constexpr Units allowance(Units leased) { return std::max<Units>(units_of(64 * kMiB), leased / 20); }
constexpr bool is_overuse(const ProcessUse& use) { return use.beyond() > allowance(use.leased); }

// Counts samples of one process; one that looks wrong may have been taken between an allocation and its grant.
class Policer {
 public:
  // Whether it uses too much, by this sample and the one before.
  bool observe(const ProcessUse& use) {
    samples_ = is_overuse(use) ? samples_ + 1 : 0;
    return is_over();
  }
  bool is_over() const { return samples_ >= 2; }
  // It did not mend its ways for this many samples more: its leases are asked back.
  bool is_stubborn() const { return samples_ >= 5; }

 private:
  int samples_ = 0;
};

// What leases do not explain of a card on which `used` is used: of processes with a lease what goes beyond it, of
// others all. `own` is what the arbiter created itself. A lease that its process did not fill yet hides nobody.
constexpr Units foreign_of(Units used, Units own, std::span<const ProcessUse> known) {
  Units explained = own;
  for (const ProcessUse& use : known) explained += std::min(use.used, use.leased + use.context);
  return std::max<Units>(used - explained, 0);
}

}  // namespace mesh::gpu
