// Deadlines of many calls behind one armed timer.
//
// A clock face with 512 marks, 8 ms apart: a deadline hangs at its mark, and one that is more than a lap away is looked
// at once per lap. Adding and removing are O(1) and leave nothing behind, unlike a heap with lazy deletion, which would
// keep the 4.5 s deadline of a call that was answered after 100 us. (Varghese, Lauck: "Hashed and hierarchical timing
// wheels", SOSP 1987, scheme 6.)
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "common/base/instant.h"

namespace mesh {

// Entries are numbers chosen by the caller (slots of its table), each at most once in the wheel.
class TimerWheel {
 public:
  static constexpr Duration kTick = milliseconds(8);
  static constexpr size_t kMarks = 512;

  // Sets or moves the deadline of `entry`.
  void set(uint32_t entry, Instant deadline);
  // Forgets it; no effect if it has none.
  void clear(uint32_t entry);

  // When to look next: never later than the earliest deadline + one tick; kNever when empty. Earlier only, by whole
  // laps, when many entries are all more than a lap away.
  Instant next_deadline() const {
    if (size_ == 0) return kNever;
    if (next_ == kUnknown) next_ = find_next();
    return next_;
  }
  // Takes out all entries whose deadline is not after `now`, and appends them to `due`.
  void expire(Instant now, std::vector<uint32_t>& due);
  size_t size() const { return size_; }

 private:
  static constexpr uint32_t kNone = UINT32_MAX;
  static constexpr Instant kUnknown = Instant::min();
  struct Node {
    Instant deadline = kNever;
    uint32_t next = kNone;
    uint32_t previous = kNone;
    uint32_t mark = kNone;
  };
  static int64_t tick_of(Instant at) { return at.time_since_epoch() / kTick; }
  void unlink(uint32_t entry);
  bool due_in_tick(uint32_t entry, int64_t tick) const;
  Instant find_next() const;
  Instant far_deadline() const;

  std::vector<Node> nodes_;
  std::array<uint32_t, kMarks> heads_ = filled();
  std::array<uint64_t, kMarks / 64> occupied_{};
  int64_t current_tick_ = 0;  // everything before it was expired
  bool started_ = false;
  mutable Instant next_ = kUnknown;  // asked for far oftener than it changes
  size_t size_ = 0;

  static std::array<uint32_t, kMarks> filled() {
    std::array<uint32_t, kMarks> heads{};
    heads.fill(kNone);
    return heads;
  }
};

}  // namespace mesh
