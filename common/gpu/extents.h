// Which chunks a card's free memory lies in.
//
// Chunks lie behind virtual addresses, so any will do and there are no holes to fill: what counts is how many of each
// size there are, like coins in a till. A buddy allocator by count: to have change, a large coin is broken; to have a
// large one, small ones are melted down. 24 GiB in 2 MiB chunks would be 12 288 descriptors, past common limits.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "common/gpu/bounds.h"
#include "common/gpu/units.h"

namespace mesh::gpu {

inline constexpr size_t kExtentSizes = 3;
// 256, 32 and 2 MiB.
inline constexpr std::array<Units, kExtentSizes> kExtentUnits = {128, 16, 1};

// How many extents of each size.
struct Extents {
  std::array<uint32_t, kExtentSizes> count{};

  Units units() const;
  uint32_t total() const { return count[0] + count[1] + count[2]; }
  bool operator==(const Extents&) const = default;
  Extents& operator+=(const Extents& other);
  Extents& operator-=(const Extents& other);  // no more than there are
  bool contains(const Extents& other) const;
};

// As few as make up just so many units: what is wasted is what was lost to rounding bytes to units, less than 2 MiB.
Extents extents_of(Units units);

// What the driver is to do, in this order. What is released leaves the card, what is created comes new.
struct ExtentPlan {
  Extents release{};  // free ones
  Extents create{};
  Extents take{};  // for who asked, of the free and the new ones
};

// The free extents of one card. They stay for the next to ask, until somebody who allocates by himself needs the room.
class ExtentPool {
 public:
  // A plan for so many units, of free extents and of `room` units of the card that nobody has; nothing if they are not
  // enough. The pool is as if it was carried out.
  std::optional<ExtentPlan> take(Units units, Units room);
  // What came back.
  void put(const Extents& extents) { free_ += extents; }
  // What a plan was to create and the driver could not, as far as it is free.
  void lose(const Extents& extents);
  // Frees at least so many units of the card, or all there are. The pool is as if it was carried out.
  Extents trim(Units units);
  const Extents& free() const { return free_; }

 private:
  Extents free_{};
};

// Whether so much of a grant lies in an agent's allocator with nothing living in it that it is worth asking for it.
constexpr bool wants_trim(Units live, Units granted) {
  return static_cast<double>(granted - live) > bounds::slack_share_max * static_cast<double>(granted);
}

}  // namespace mesh::gpu
