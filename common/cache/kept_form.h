// A kept reply as bytes: in memory that several processes share, and on disk.
//
// Little-endian: XXH3-64 of all that follows; "MKF1"; the size of all; the numbers of a Kept; how many tags, parts and
// echoes there are and how long key and body are; then these. A byte that is not as it was written is found out by the
// sum, and what has the right sum and contradicts itself is refused as well.
#pragma once

#include <cstdint>
#include <optional>

#include "common/base/slice.h"
#include "common/cache/memory_tier.h"

namespace mesh::cache {

inline constexpr size_t kKeptFormHeadBytes = 120;
// Pieces that a reply repeats from its request; a reply with more is not kept as bytes.
inline constexpr size_t kKeptFormEchoesMax = 4096;

// What was kept, as it lies outside a process.
struct Found {
  Kept kept;                 // key, body: views on the bytes, which stay alive with it
  uint64_t origin_name = 0;  // name_hash() of the instance that gave it
};

// What can be told from the first kKeptFormHeadBytes alone, if these are right; nothing if they cannot be.
struct KeptFormHead {
  uint64_t bytes = 0;  // of the whole form
  Hash hash{};
  Instant useful_until{};
};
std::optional<KeptFormHead> read_kept_form_head(ByteView head);

// Of the form of this; 0 if it has none, as it is beyond the limits.
uint64_t kept_form_bytes(const Kept& kept);
// Empty if it has none. Instants are rounded down to microseconds.
Slice encode_kept_form(const Kept& kept, uint64_t origin_name);
// Any bytes will do; bytes behind the form are not looked at. Nothing if they are no form or a wrong one. Echoes lie in
// the body one behind the other; parts, if any, are the body. That an echo's field is one of those asked for now is for
// the caller to see.
std::optional<Found> decode_kept_form(const Slice& bytes);
// Whether these are a form with the right sum.
bool is_intact_kept_form(ByteView bytes);

}  // namespace mesh::cache
