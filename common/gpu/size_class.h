// How large a lease is, and how much of the card each class keeps from larger ones.
//
// Not carve-outs: any class uses all there is. But one large model must not push out the dozen small ones that
// everybody needs all the time, so larger classes cannot evict a smaller one below its floor.
#pragma once

#include <array>
#include <cstdint>

#include "common/gpu/units.h"

namespace mesh::gpu {

enum class SizeClass : uint8_t { kSmall, kMedium, kLarge, kXl };
inline constexpr size_t kSizeClasses = 4;

constexpr SizeClass class_of(Units units) {
  if (units <= units_of(256 * kMiB)) return SizeClass::kSmall;
  if (units <= units_of(1 * kGiB)) return SizeClass::kMedium;
  return units <= units_of(4 * kGiB) ? SizeClass::kLarge : SizeClass::kXl;
}

// Units by class.
using ClassUnits = std::array<Units, kSizeClasses>;

class Floors {
 public:
  // 256 MiB, 1 GiB and 4 GiB on a card of 12 GiB, and in proportion on others; xl has none.
  explicit constexpr Floors(Units card_total) {
    const Units on_12_gib[] = {units_of(256 * kMiB), units_of(1 * kGiB), units_of(4 * kGiB), 0};
    for (size_t i = 0; i < kSizeClasses; ++i) units_[i] = on_12_gib[i] * card_total / units_of(12 * kGiB);
  }

  constexpr Units of(SizeClass size) const { return units_[static_cast<size_t>(size)]; }
  // How much of a class that holds `held` one of class `by` may evict.
  constexpr Units evictable(SizeClass size, Units held, SizeClass by) const {
    if (by <= size) return held;
    return held > of(size) ? held - of(size) : 0;
  }

 private:
  ClassUnits units_{};
};

}  // namespace mesh::gpu
