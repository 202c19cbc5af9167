// What became of calls with an idempotency key: so that a call that comes twice is executed once.
//
// A cloakroom that remembers each ticket for a while: who comes again with a ticket that was served is told what was
// handed out; who comes while it is being looked for waits for the same coat; who comes with the same number and
// another coat in mind is sent away. (After draft-ietf-httpapi-idempotency-key-header.)
#pragma once

#include <cstdint>
#include <deque>
#include <unordered_map>
#include <vector>

#include "common/base/code.h"
#include "common/base/instant.h"
#include "common/base/limits.h"
#include "common/base/slice.h"
#include "common/wire/digest.h"

namespace mesh::routing {

class KeyedCalls {
 public:
  // Where the result of a call that ended is.
  enum class Kept : uint8_t { kNowhere, kInMemory, kOnDisk };
  struct Entry {
    wire::Digest payload;    // of what was asked
    uint64_t open_call = 0;  // that is being executed; 0: it ended
    Code code = Code::kOk;   // with which it ended
    Kept kept = Kept::kNowhere;
    bool is_durable = false;  // there is a record of it
    uint64_t disk_bytes = 0;  // of that, if its result is in there
    Slice body;               // if in memory
    std::vector<uint32_t> part_sizes;
    Instant forget_at = kNever;
  };

  // Null if there is none. Valid until another function of this is called.
  const Entry* find(const wire::Digest& key) const;
  // A call that begins; there must be none of this key.
  void open(const wire::Digest& key, const wire::Digest& payload, uint64_t call, bool is_durable);
  // It ended; it is remembered for limits::key_window_ms from now, less `age`: quick in the order of that time. A body
  // larger than limits::kept_result_bytes is not kept in memory, and the oldest bodies go where all are too large. With
  // kOnDisk: how large what is there is.
  void end(const wire::Digest& key, Code code, Kept kept, Instant now, Duration age = Duration{0},
           uint64_t disk_bytes = 0);
  void keep_body(const wire::Digest& key, const Slice& body, std::vector<uint32_t> part_sizes);
  // As if it had never come.
  void forget(const wire::Digest& key);

  // Forgets what is old enough, and the oldest of too many; appends the keys of which there is a record.
  void expire(Instant now, std::vector<wire::Digest>& recorded);
  Instant next_deadline() const { return ended_.empty() ? kNever : ended_.front().forget_at; }

  size_t size() const { return entries_.size(); }
  uint64_t kept_bytes() const { return kept_bytes_; }

 private:
  struct Hash {
    size_t operator()(const wire::Digest& digest) const { return digest.short_form(); }
  };
  struct Ended {
    Instant forget_at;
    wire::Digest key;
  };
  void drop_body(Entry& entry);

  std::unordered_map<wire::Digest, Entry, Hash> entries_;
  std::deque<Ended> ended_;  // in the order of their time
  std::deque<wire::Digest> with_body_;
  uint64_t kept_bytes_ = 0;
};

}  // namespace mesh::routing
