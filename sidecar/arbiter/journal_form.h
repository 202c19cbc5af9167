// What is written to the journal, as bytes, and what of it still counts.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "common/base/slice.h"
#include "sidecar/arbiter/events.h"

namespace mesh::arbiter {

std::string encode(const JournalEntry& entry);
// Nothing if these bytes are none. Of another version's what is not known is left out.
std::optional<JournalEntry> decode(ByteView bytes);

// Which run of which computer's cards a journal is of: of others it says nothing, since no lease outlives its memory.
std::string encode_scope(ByteView boot, const std::vector<std::string>& gpus);

// The last entry of each lease and segment: enough to begin with, however long the journal has become.
class JournalDigest {
 public:
  // The record of what was just appended is kept as it is.
  void note(const JournalEntry& entry, std::string record);
  // In an order in which they can be read.
  std::vector<std::string> records() const;
  size_t bytes() const { return bytes_; }

 private:
  struct Key {
    bool is_lease;
    LeaseId id;
    auto operator<=>(const Key&) const = default;
  };
  std::string epoch_;
  std::map<Key, std::string> live_;
  size_t bytes_ = 0;
};

}  // namespace mesh::arbiter
