// Small records on disk, by key: what must be known after a kill -9.
//
// The edge implements it (and a simulator's disk): the engine's thread asks, somebody else writes, and the answer comes
// later in a turn of the loop.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "common/base/instant.h"
#include "common/base/slice.h"

namespace mesh {

using RecordKey = std::array<uint8_t, 16>;

class RecordObserver {
 public:
  virtual ~RecordObserver() = default;
  // The record of that put() is on disk, and so are all before it; or it could not be written, and an earlier record of
  // the key may be gone or not.
  virtual void on_stored(uint64_t ticket, bool is_stored) = 0;
  // Nothing if there is no such record or it cannot be read. The slice owns its bytes.
  virtual void on_loaded(uint64_t ticket, std::optional<Slice> value) = 0;
};

class RecordStore {
 public:
  virtual ~RecordStore() = default;

  struct Found {
    RecordKey key;
    Slice head;     // its first bytes, at most as many as were asked for
    uint64_t size;  // of the whole value
    // How long ago it was written, on a clock that nobody sets; zero where that cannot be known, as after the computer
    // was restarted.
    Duration age;
  };
  // Once, before anything else: every record, in no order. Blocks.
  virtual std::vector<Found> recover(size_t head_bytes) = 0;
  // Must be set before the first put() or load(); it must outlive this.
  virtual void set_observer(RecordObserver* observer) = 0;

  // Puts, erasures and loads take effect in the order in which they are asked for. The answers come in it, too. What is
  // asked in one turn or while the disk is busy is written together.
  virtual void put(uint64_t ticket, const RecordKey& key, std::vector<Slice> value) = 0;
  virtual void load(uint64_t ticket, const RecordKey& key) = 0;
  // Never answered: a record that could not be erased is found again by recover(), older.
  virtual void erase(const RecordKey& key) = 0;
};

}  // namespace mesh
