#include "common/base/timer_wheel.h"

#include <algorithm>
#include <bit>

namespace mesh {

void TimerWheel::set(uint32_t entry, Instant deadline) {
  if (entry >= nodes_.size()) nodes_.resize(entry + 1);
  if (nodes_[entry].mark != kNone) unlink(entry);
  const int64_t tick = tick_of(deadline);
  const Instant tick_end = Instant(kTick * (tick + 1));
  if (size_ == 0 || (next_ != kUnknown && tick_end < next_)) next_ = tick_end;
  if (!started_ || size_ == 0 || tick < current_tick_) {
    current_tick_ = started_ && size_ > 0 ? std::min(current_tick_, tick) : tick;
    started_ = true;
  }
  const auto mark = static_cast<uint32_t>(static_cast<uint64_t>(tick) % kMarks);
  Node& node = nodes_[entry];
  node = {deadline, heads_[mark], kNone, mark};
  if (node.next != kNone) nodes_[node.next].previous = entry;
  heads_[mark] = entry;
  occupied_[mark / 64] |= uint64_t{1} << (mark % 64);
  ++size_;
}

void TimerWheel::clear(uint32_t entry) {
  if (entry < nodes_.size() && nodes_[entry].mark != kNone) unlink(entry);
}

void TimerWheel::unlink(uint32_t entry) {
  Node& node = nodes_[entry];
  if (node.previous != kNone) {
    nodes_[node.previous].next = node.next;
  } else {
    heads_[node.mark] = node.next;
    if (node.next == kNone) occupied_[node.mark / 64] &= ~(uint64_t{1} << (node.mark % 64));
  }
  if (node.next != kNone) nodes_[node.next].previous = node.previous;
  if (node.deadline < next_) next_ = kUnknown;
  node = Node();
  --size_;
}

// Whether anything in the list that begins at `entry` is due in this tick, and not laps later.
bool TimerWheel::due_in_tick(uint32_t entry, int64_t tick) const {
  for (; entry != kNone; entry = nodes_[entry].next) {
    if (tick_of(nodes_[entry].deadline) <= tick) return true;
  }
  return false;
}

// All entries are more than a lap away. A few are looked at, so that a quiet process sleeps until the first of them.
Instant TimerWheel::far_deadline() const {
  constexpr size_t kFew = 64;
  if (size_ > kFew) return Instant(kTick * (current_tick_ + static_cast<int64_t>(kMarks)));
  Instant earliest = kNever;
  for (const Node& node : nodes_) {
    if (node.mark != kNone) earliest = std::min(earliest, node.deadline);
  }
  return Instant(kTick * (tick_of(earliest) + 1));
}

Instant TimerWheel::find_next() const {
  const auto from = static_cast<uint64_t>(current_tick_) % kMarks;
  for (uint64_t distance = 0; distance < kMarks;) {
    const uint64_t mark = (from + distance) % kMarks;
    const uint64_t word = occupied_[mark / 64] >> (mark % 64);
    if (word == 0) {
      distance += 64 - mark % 64;
      continue;
    }
    distance += static_cast<uint64_t>(std::countr_zero(word));
    if (distance >= kMarks) break;
    const int64_t tick = current_tick_ + static_cast<int64_t>(distance);
    // The end of the tick: all of it is due then.
    if (due_in_tick(heads_[static_cast<uint64_t>(tick) % kMarks], tick)) return Instant(kTick * (tick + 1));
    ++distance;
  }
  return far_deadline();
}

void TimerWheel::expire(Instant now, std::vector<uint32_t>& due) {
  const int64_t now_tick = tick_of(now);
  if (size_ == 0 || now_tick < current_tick_) return;
  if (next_ <= now) next_ = kUnknown;
  const int64_t laps_end = std::min(now_tick, current_tick_ + static_cast<int64_t>(kMarks) - 1);
  for (int64_t tick = current_tick_; tick <= laps_end && size_ > 0; ++tick) {
    uint32_t entry = heads_[static_cast<uint64_t>(tick) % kMarks];
    while (entry != kNone) {
      const uint32_t next = nodes_[entry].next;
      if (nodes_[entry].deadline <= now) {
        unlink(entry);
        due.push_back(entry);
      }
      entry = next;
    }
  }
  current_tick_ = now_tick;
}

}  // namespace mesh
