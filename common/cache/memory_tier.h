// Replies in memory, by key, in a budget of bytes.
//
// When room is needed, that goes first which saves least per byte: how often it was asked for, times what it took to
// get, over its size; what has not been asked for in a long time grows old (GreedyDual-Size with Frequency: Cherkasova
// 1998, after Cao and Irani 1997). A use is only counted; where it puts the entry is worked out when room is needed.
// What was asked for just once counts for little, as most of it never is again; what comes back soon after it went
// counts for more, which is S3-FIFO's thought (Yang et al., SOSP 2023). tools/bench/cache compares them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "common/base/instant.h"
#include "common/cache/purges.h"
#include "common/cache/reply.h"
#include "common/cache/request.h"

namespace mesh::cache {

struct Kept {
  Key key{};
  uint64_t service = 0;  // name_hash()es
  uint64_t method = 0;
  std::vector<uint64_t> tags{};
  Slice body{};
  std::vector<uint32_t> part_sizes{};
  std::vector<Echo> echoes{};
  Instant stored_at{};
  Instant fresh_until{};
  Instant revalidate_until{};  // till then given, while a new one is fetched; not before fresh_until
  Instant error_until{};       // till then given if no new one can be had; likewise
  int64_t cost_us = 0;         // what it took to get
  uint64_t since = 0;          // Purges::position() when its fetch began
  uint32_t origin = 0;         // the instance that gave it; whoever keeps it knows which that is

  Names names() const { return {service, method, key_name(key.hash), tags}; }
  Instant useful_until() const { return std::max({fresh_until, revalidate_until, error_until}); }
  uint64_t bytes() const;  // of memory, what finds it included
};

class MemoryTier {
 public:
  explicit MemoryTier(uint64_t budget_bytes) : budget_bytes_(budget_bytes) {}

  // The reply kept for the key, also one that is fresh no more; null if there is none that is of any use. Valid until
  // the next call of this.
  const Kept* find(const Key& key, const Purges& purges, Instant now);
  // Why the last find() found nothing.
  enum class Absence : uint8_t { kNeverKept, kRanOut, kBecameWrong };
  Absence absence() const { return absence_; }
  // Likewise by the hash alone; for people: it is no use of it.
  const Kept* look(const Hash& hash, const Purges& purges, Instant now) const;
  // visit(kept, uses) for each that is of use.
  template <class Visit>
  void for_each(const Purges& purges, Instant now, Visit visit) const {
    for (const auto& [hash, index] : index_) {
      if (const Kept* kept = look(hash, purges, now)) visit(*kept, slots_[index].uses);
    }
  }
  // In place of an earlier one of the key. Not if it is too large for the budget or not useful any more.
  void put(Kept kept, Instant now);
  void erase(const Key& key);

  uint64_t held_bytes() const { return held_bytes_; }
  uint64_t budget_bytes() const { return budget_bytes_; }
  // Those that are of no use any more and have not been found out included.
  uint64_t entries() const { return index_.size(); }
  uint64_t evicted() const { return evicted_; }

 private:
  struct Slot {
    Kept kept;
    uint32_t uses = 0;  // since it came, 0: a free slot
    uint32_t uses_counted = 0;
    uint32_t version = 0;
  };
  struct Place {
    double worth;
    uint32_t slot;
    uint32_t version;
    bool operator<(const Place& other) const { return worth > other.worth; }  // the heap's top is worth least
  };
  double worth(const Slot& slot) const;
  void place(uint32_t index);
  void free(uint32_t index);
  void make_room(uint64_t bytes, Instant now);
  void drop_dead_places();
  void remember(uint64_t hash);

  uint64_t budget_bytes_;
  uint64_t held_bytes_ = 0;
  uint64_t evicted_ = 0;
  Absence absence_ = Absence::kNeverKept;
  double age_ = 0;  // the worth of what went last
  std::vector<Slot> slots_;
  std::vector<uint32_t> free_;
  std::vector<Place> heap_;
  std::deque<uint64_t> ghosts_;  // Hash::low of what went, the oldest first
  std::unordered_set<uint64_t> ghost_index_;
  std::unordered_map<Hash, uint32_t, HashOfHash> index_;
};

}  // namespace mesh::cache
