// Open calls by id, with all their deadlines behind one timer.
//
// A cloakroom: the id is the number on the tag, with a second number that changes each time the hook is used again. So
// an answer that comes after its call ended finds nobody, however soon the hook was given to the next.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "common/base/check.h"
#include "common/base/timer_wheel.h"

namespace mesh::routing {

template <class Call>
class CallTable {
 public:
  // Takes the call in and gives its id, never 0.
  uint64_t open(Call&& call, Instant deadline) {
    uint32_t slot = 0;
    if (free_.empty()) {
      slot = static_cast<uint32_t>(slots_.size());
      slots_.emplace_back();
    } else {
      slot = free_.back();
      free_.pop_back();
    }
    Slot& at = slots_[slot];
    at.call = std::move(call);
    at.open = true;
    if (deadline != kNever) wheel_.set(slot, deadline);
    ++size_;
    return id_of(slot);
  }

  // The open call of that id, or null. Valid until the next open().
  Call* find(uint64_t id) {
    const uint64_t slot = id & kSlotMask;
    if (slot >= slots_.size()) return nullptr;
    Slot& at = slots_[slot];
    return at.open && at.generation == id >> kSlotBits ? &at.call : nullptr;
  }

  // Takes the call out; it must be open.
  Call close(uint64_t id) {
    MESH_CHECK(find(id) != nullptr);
    const auto slot = static_cast<uint32_t>(id & kSlotMask);
    release(slot);
    Slot& at = slots_[slot];
    Call call = std::move(at.call);
    at.call = Call();
    return call;
  }

  // The same without taking it out. What it holds stays held until its place is used again: let go of what is large.
  void erase(uint64_t id) {
    MESH_CHECK(find(id) != nullptr);
    release(static_cast<uint32_t>(id & kSlotMask));
  }

  // Moves the call's deadline; kNever takes it away.
  void set_deadline(uint64_t id, Instant deadline) {
    MESH_CHECK(find(id) != nullptr);
    const auto slot = static_cast<uint32_t>(id & kSlotMask);
    if (deadline == kNever) {
      wheel_.clear(slot);
    } else {
      wheel_.set(slot, deadline);
    }
  }

  Instant next_deadline() const { return wheel_.next_deadline(); }
  // Appends the ids of all calls whose deadline is not after `now`. They stay open, without a deadline.
  void expire(Instant now, std::vector<uint64_t>& due) {
    due_slots_.clear();
    wheel_.expire(now, due_slots_);
    for (const uint32_t slot : due_slots_) due.push_back(id_of(slot));
  }

  size_t size() const { return size_; }
  // Calls visit(id, call) for each open call; it may close that call but no other.
  template <class Visit>
  void for_each(Visit visit) {
    for (uint32_t slot = 0; slot < slots_.size(); ++slot) {
      if (slots_[slot].open) visit(id_of(slot), slots_[slot].call);
    }
  }

 private:
  static constexpr int kSlotBits = 24;
  static constexpr uint64_t kSlotMask = (uint64_t{1} << kSlotBits) - 1;
  static constexpr uint64_t kGenerationMask = (uint64_t{1} << (64 - kSlotBits)) - 1;
  struct Slot {
    Call call;
    uint64_t generation = 1;
    bool open = false;
  };
  void release(uint32_t slot) {
    Slot& at = slots_[slot];
    at.open = false;
    at.generation = (at.generation + 1) & kGenerationMask;
    if (at.generation == 0) at.generation = 1;
    wheel_.clear(slot);
    free_.push_back(slot);
    --size_;
  }
  uint64_t id_of(uint32_t slot) const { return slots_[slot].generation << kSlotBits | slot; }

  std::vector<Slot> slots_;
  std::vector<uint32_t> free_;
  std::vector<uint32_t> due_slots_;
  TimerWheel wheel_;
  size_t size_ = 0;
};

}  // namespace mesh::routing
