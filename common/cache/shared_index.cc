#include "common/cache/shared_index.h"

#include "common/cache/shared_words.h"

namespace mesh::cache {
namespace {

// Each of them means that another process has put something into the bucket.
constexpr int kPutTriesMax = 8;

}  // namespace

bool SharedIndex::is_live(Slot slot) const {
  if (slot.is_empty() || slot.segment() >= segments_.size()) return false;
  const uint64_t live = load(segments_[slot.segment()].live);
  return live != 0 && slot.has_lap((live - 1) / segments_.size());
}

std::span<uint64_t, SharedIndex::kWays> SharedIndex::bucket_of(const Hash& hash) const {
  const uint64_t buckets = words_.size() / kWays;
  // As good as the remainder, without a division (Lemire: "Fast random integer generation in an interval", 2019).
  const size_t bucket = (hash.low >> 32) * buckets >> 32;
  return words_.subspan(bucket * kWays).first<kWays>();
}

SharedIndex::Choice SharedIndex::choose(const Hash& hash, std::span<uint64_t, kWays> bucket) const {
  std::optional<Choice> free;
  std::optional<Choice> oldest;
  uint64_t oldest_ticket = 0;
  for (size_t way = 0; way < kWays; ++way) {
    const Slot slot{load(bucket[way])};
    const bool is_live_slot = is_live(slot);
    if (slot.has_tag_of(hash)) return {way, slot, is_live_slot ? Put::kReplaced : Put::kAdded};
    if (!is_live_slot) {
      if (!free) free = Choice{way, slot, Put::kAdded};
      continue;
    }
    // What nobody asked for goes first, then what is oldest.
    const uint64_t ticket = load(segments_[slot.segment()].live);
    const bool is_better = !oldest || (oldest->was.is_visited() && !slot.is_visited()) ||
                           (oldest->was.is_visited() == slot.is_visited() && ticket < oldest_ticket);
    if (!is_better) continue;
    oldest = Choice{way, slot, Put::kEvicted};
    oldest_ticket = ticket;
  }
  return free ? *free : *oldest;
}

SharedIndex::Put SharedIndex::put(const Hash& hash, Slot slot) {
  const auto bucket = bucket_of(hash);
  for (int tries = 0; tries < kPutTriesMax; ++tries) {
    const Choice choice = choose(hash, bucket);
    if (!exchange(bucket[choice.way], choice.was, slot)) {
      if (choice.kind == Put::kReplaced) return Put::kOvertaken;
      continue;
    }
    if (choice.kind != Put::kAdded) count_out(choice.was);
    Word(segments_[slot.segment()].entries).fetch_add(1, std::memory_order_relaxed);
    // Two that put the same key at once may each have found a place.
    for (size_t way = 0; way < kWays; ++way) {
      const Slot other{load(bucket[way])};
      if (way != choice.way && other.has_tag_of(hash)) drop(bucket[way], other);
    }
    return choice.kind;
  }
  return Put::kOvertaken;
}

bool SharedIndex::exchange(uint64_t& word, Slot from, Slot to) {
  return Word(word).compare_exchange_strong(from.bits, to.bits);
}

bool SharedIndex::move(uint64_t& word, Slot from, Slot to) {
  if (!exchange(word, from, to)) return false;
  count_out(from);
  Word(segments_[to.segment()].entries).fetch_add(1, std::memory_order_relaxed);
  return true;
}

void SharedIndex::drop(uint64_t& word, Slot slot) {
  if (exchange(word, slot, {}) && is_live(slot)) count_out(slot);
}

void SharedIndex::erase(const Hash& hash) {
  for (uint64_t& word : bucket_of(hash)) {
    const Slot slot{load(word)};
    if (slot.has_tag_of(hash)) drop(word, slot);
  }
}

// A little wrong where somebody was killed between a change and its count; made good when the segment is written anew.
void SharedIndex::count_out(Slot slot) {
  uint64_t& entries = segments_[slot.segment()].entries;
  uint64_t was = load(entries);
  if (was > 0) Word(entries).compare_exchange_strong(was, was - 1);
}

}  // namespace mesh::cache
