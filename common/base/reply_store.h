// Replies on disk, by hash: what is still worth something after a restart, and what is too large for memory.
//
// The edge implements it (and a simulator's disk): the engine's thread asks, somebody else reads and writes, and the
// answer comes later in a turn of the loop. It is a cache: a disk that is full, broken or gone makes misses and counts
// them, and the engine is told of nothing else.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "common/base/slice.h"

namespace mesh {

struct ReplyHash {
  uint64_t low = 0;
  uint64_t high = 0;
  friend bool operator==(const ReplyHash&, const ReplyHash&) = default;
};

struct StoredReply {
  Slice value;  // owns its bytes
  // By the wall clock, so that restarts and reboots count: how long ago it was made, and how long it may still be used.
  int64_t age_ms;
  int64_t left_ms;
};

class ReplyStoreObserver {
 public:
  virtual ~ReplyStoreObserver() = default;
  // Nothing if there is no such reply, if its time is over or if it cannot be read. What an erasure that was already
  // reported has erased is never given, however early it was asked for.
  virtual void on_loaded(uint64_t ticket, std::optional<StoredReply> reply) = 0;
  // All that was put before and carries one of the names is gone, and a power cut does not bring it back.
  virtual void on_erased(uint64_t ticket) = 0;
};

class ReplyStore {
 public:
  virtual ~ReplyStore() = default;

  struct Terms {
    int64_t cost_us;                  // what it took to fetch, and would take again
    int64_t ttl_ms;                   // from now; nothing is stored if it is not positive
    int64_t age_ms = 0;               // of the reply when it is put
    std::span<const uint64_t> names;  // hashes of whatever it may be erased by; copied
  };
  // All since the start, but for the first three.
  struct Stats {
    uint64_t entries = 0;
    uint64_t bytes = 0;         // on disk: the pages in use and the files
    uint64_t budget_bytes = 0;  // they never become more
    uint64_t hits = 0;
    uint64_t misses = 0;
    uint64_t puts = 0;              // that are stored
    uint64_t evicted = 0;           // for want of room; also those whose time was over by then
    uint64_t damaged = 0;           // found broken, and removed
    uint64_t refused = 0;           // puts that the disk, or the queue before it, did not take
    uint64_t begun_anew = 0;        // how often the whole store was thrown away because it was damaged
    uint64_t erasures_pending = 0;  // asked for and not yet reported
    bool is_serving = false;        // false: every load is a miss and no put is stored; it is tried again by itself
    std::string last_error = {};    // for people; stays until the next one
  };
  // Must be set before anything else is asked; it must outlive this.
  virtual void set_observer(ReplyStoreObserver* observer) = 0;

  // Is answered in any order. What was put or erased just before may be missed or still be there, until it is reported.
  virtual void load(uint64_t ticket, const ReplyHash& hash) = 0;
  // Puts and erasures take effect in the order in which they are asked for. A put replaces what is there. It is never
  // answered; a power cut may lose it.
  virtual void put(const ReplyHash& hash, Slice value, const Terms& terms) = 0;
  // Reported once, as late as it takes: where the disk does not let it be done nothing is served, and it waits.
  virtual void erase(uint64_t ticket, std::span<const uint64_t> names) = 0;
  virtual void erase_all(uint64_t ticket) = 0;

  // As of the last answer; valid until the next.
  virtual const Stats& stats() const = 0;
};

}  // namespace mesh
