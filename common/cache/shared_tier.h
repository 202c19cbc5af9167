// Replies in memory that all sidecars of a category on a host share.
//
// Any of them may be stopped or killed at any moment, also in the middle of a write, and the others must not notice. So
// nothing is ever locked, and nobody waits for anybody:
//
//  - Memory is a ring of segments. A writer takes the next one by one atomic addition and appends to it alone; with
//    that the entries in it are evicted, the oldest of all. Those that were asked for since they came are carried over
//    before, as far as half of the writer's segment allows (FIFO with reinsertion, as S3-FIFO's main queue: Yang et
//    al., SOSP 2023; segments as in Memshare and Segcache, NSDI 2021). Each put carries a little, so none takes long.
//  - An index of one word for each entry (shared_index.h) says where. Writers change it by compare and exchange once
//    the entry lies there.
//  - A reader copies an entry out, and whether it was whole is judged by the copy: its checksum (kept_form.h) and the
//    whole key. A seqlock without the waiting: what is wrong is a miss.
//
// A writer that was stopped for so long that its segment was taken by another looks before each entry, so it writes
// into it once at most when it goes on. That entry's bytes are whole or the checksum does not fit; and whatever a
// reader finds there is judged by its own key, times and position, never by where it lies.
//
// The clock must be the same in all processes (CLOCK_MONOTONIC is).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "common/base/backing.h"
#include "common/base/result.h"
#include "common/cache/kept_form.h"
#include "common/cache/purges.h"
#include "common/cache/shared_index.h"
#include "common/cache/shared_layout.h"
#include "common/cache/shared_witness.h"

namespace mesh::cache {

// What this object saw, not what the others did.
struct SharedCounts {
  uint64_t evicted = 0;       // entries that went for others
  uint64_t carried_over = 0;  // entries that would have gone, and were asked for since they came
  uint64_t torn = 0;          // entries that were not whole; misses
  uint64_t overtaken = 0;     // entries whose segment another took while they were written
  uint64_t refused = 0;       // puts: too large, or no memory at all
  uint64_t unbacked = 0;      // times that a segment could not be had, as memory ran out
};

class SharedTier {
 public:
  // On a region that is all 0 or was attached to before, by whomever. It begins at a multiple of 64; it and `backing`
  // outlive this. `book_id` becomes the region's if it has none, and is any number but 0 that no other region has.
  // INVALID if the region has another layout or size, STORAGE if its fixed part cannot be backed.
  static Result<SharedTier> attach(std::span<std::byte> region, Backing& backing, uint64_t book_id);

  // What was kept for the key if it is of any use; whether it was purged is for the caller to see. Costs an allocation
  // of its size, which the body shares; its key is the one that is given.
  std::optional<Found> find(const Key& key, Instant now);
  // Likewise by the hash alone; for people: it is no use of it.
  std::optional<Found> look(const Hash& hash, Instant now) const;
  // In place of an earlier one of the key. False if it was not kept: too large, of no use any more, no memory, or
  // somebody put the same key at this moment.
  bool put(const Kept& kept, uint64_t origin_name, Instant now);
  // What is put at this moment may stay: that a reply is wrong is told to purges().
  void erase(const Key& key);

  // What the sidecars that share it are fetching.
  SharedFlights flights() const;
  // The words for a Purges that all share.
  std::span<uint64_t> purge_words() const;
  // Positions mean something only within one book: those of a region made anew begin again.
  uint64_t book_id() const;
  // The host's notes on a sidecar, kept until the region goes; nothing if there are notes on too many. The name is any
  // hash.
  std::optional<Witness> witness(uint64_t name);

  const SharedCounts& counts() const { return counts_; }
  // Of all processes, about; each walks over the segments.
  uint64_t entries() const;
  uint64_t held_bytes() const;      // that entries take, also those replaced since
  uint64_t reserved_bytes() const;  // of memory in use
  uint64_t region_bytes() const { return region_.size(); }
  size_t entry_bytes_max() const { return layout_.entry_bytes_max(); }

 private:
  // A segment that this took. Another may take it at any time.
  struct Hold {
    uint64_t ticket = 0;
    size_t segment = 0;
    size_t at = 0;  // up to where it is written, or carried over
    size_t carried_bytes = 0;
  };
  SharedTier(std::span<std::byte> region, Backing& backing);

  SharedHead& head() const { return *reinterpret_cast<SharedHead*>(region_.data()); }
  uint64_t* words_at(size_t segment, size_t offset) const;
  uint64_t lap_of(uint64_t ticket) const { return ticket / layout_.segments(); }
  bool is_held(const std::optional<Hold>& hold) const;

  Slice copy_entry(Slot slot) const;
  std::optional<Hold> take_next(Instant now);
  bool reserve(size_t segment, Instant now);
  bool begin(const Hold& hold);
  bool advance(size_t bytes, Instant now);
  std::optional<Slot> append(const Hash& hash, ByteView form);
  void carry_some(size_t put_bytes, Instant now);
  bool carry(const KeptFormHead& entry, Instant now);

  std::span<std::byte> region_;
  Backing* backing_;
  SharedLayout layout_;
  std::span<SegmentWords> segments_;
  SharedIndex index_;
  std::optional<Hold> current_;  // appended to
  std::optional<Hold> next_;     // from which is carried over
  Instant reserve_again_at_{};
  SharedCounts counts_;
};

}  // namespace mesh::cache
