#include "common/cache/memory_tier.h"

#include <algorithm>
#include <utility>

namespace mesh::cache {
namespace {

// Of one entry in the slots, the index, the heap, and when it has gone.
constexpr uint64_t kEntryBytes = 384;
// More uses than that say nothing more.
constexpr uint32_t kUsesMax = 16;
// Most of what is asked for once never is again.
constexpr double kFirstUse = 0.1;
// So many are looked at again for one that comes: nobody waits for the order of all.
constexpr int kReprievesMax = 64;
// Also what comes at once is worth a little.
constexpr int64_t kCostMin_us = 100;

}  // namespace

uint64_t Kept::bytes() const {
  return kEntryBytes + key.text.held_bytes() + body.held_bytes() + part_sizes.capacity() * sizeof(uint32_t) +
         echoes.capacity() * sizeof(Echo) + tags.capacity() * sizeof(uint64_t);
}

const Kept* MemoryTier::find(const Key& key, const Purges& purges, Instant now) {
  const auto found = index_.find(key.hash);
  absence_ = Absence::kNeverKept;
  if (found == index_.end()) return nullptr;
  Slot& slot = slots_[found->second];
  if (slot.kept.key.text.text() != key.text.text()) return nullptr;
  const bool has_run_out = slot.kept.useful_until() <= now;
  if (has_run_out || !purges.holds(slot.kept.since, slot.kept.names())) {
    absence_ = has_run_out ? Absence::kRanOut : Absence::kBecameWrong;
    free(found->second);
    return nullptr;
  }
  slot.uses = std::min(slot.uses + 1, kUsesMax);
  return &slot.kept;
}

const Kept* MemoryTier::look(const Hash& hash, const Purges& purges, Instant now) const {
  const auto found = index_.find(hash);
  if (found == index_.end()) return nullptr;
  const Kept& kept = slots_[found->second].kept;
  return kept.useful_until() > now && purges.holds(kept.since, kept.names()) ? &kept : nullptr;
}

void MemoryTier::put(Kept kept, Instant now) {
  const uint64_t bytes = kept.bytes();
  erase(kept.key);
  if (bytes > budget_bytes_ || kept.useful_until() <= now) return;
  make_room(bytes, now);
  uint32_t index = static_cast<uint32_t>(slots_.size());
  if (free_.empty()) {
    slots_.emplace_back();
  } else {
    index = free_.back();
    free_.pop_back();
  }
  held_bytes_ += bytes;
  index_[kept.key.hash] = index;
  const bool was_here = ghost_index_.contains(kept.key.hash.low);
  slots_[index].kept = std::move(kept);
  slots_[index].uses = was_here ? 2 : 1;
  place(index);
}

void MemoryTier::erase(const Key& key) {
  if (const auto found = index_.find(key.hash); found != index_.end()) free(found->second);
}

double MemoryTier::worth(const Slot& slot) const {
  const auto cost_us = static_cast<double>(std::max(slot.kept.cost_us, kCostMin_us));
  const double uses = slot.uses > 1 ? slot.uses : kFirstUse;
  return age_ + uses * cost_us / static_cast<double>(slot.kept.bytes());
}

void MemoryTier::place(uint32_t index) {
  Slot& slot = slots_[index];
  slot.uses_counted = slot.uses;
  heap_.push_back({worth(slot), index, slot.version});
  std::push_heap(heap_.begin(), heap_.end());
  if (heap_.size() > 2 * slots_.size() + 64) drop_dead_places();
}

void MemoryTier::free(uint32_t index) {
  Slot& slot = slots_[index];
  held_bytes_ -= slot.kept.bytes();
  index_.erase(slot.kept.key.hash);
  slot.kept = Kept();
  slot.uses = 0;
  ++slot.version;  // its place in the heap is nobody's now
  free_.push_back(index);
}

void MemoryTier::make_room(uint64_t bytes, Instant now) {
  for (int reprieves = kReprievesMax; held_bytes_ + bytes > budget_bytes_ && !heap_.empty();) {
    std::pop_heap(heap_.begin(), heap_.end());
    const Place last = heap_.back();
    heap_.pop_back();
    Slot& slot = slots_[last.slot];
    if (slot.version != last.version) continue;
    const bool was_asked_since = slot.uses > slot.uses_counted && slot.kept.useful_until() > now;
    if (was_asked_since && reprieves-- > 0) {
      place(last.slot);
      continue;
    }
    age_ = std::max(age_, last.worth);
    ++evicted_;
    remember(slot.kept.key.hash.low);
    free(last.slot);
  }
}

// Who comes back soon after it went was worth more than it seemed.
void MemoryTier::remember(uint64_t hash) {
  if (ghost_index_.insert(hash).second) ghosts_.push_back(hash);
  if (ghosts_.size() <= index_.size() + 64) return;
  ghost_index_.erase(ghosts_.front());
  ghosts_.pop_front();
}

void MemoryTier::drop_dead_places() {
  std::erase_if(heap_, [this](const Place& place) { return slots_[place.slot].version != place.version; });
  std::make_heap(heap_.begin(), heap_.end());
}

}  // namespace mesh::cache
