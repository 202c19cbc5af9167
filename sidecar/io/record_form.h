// What stands before each value in the store: enough to know that the record is whole, and how old it is.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "common/base/instant.h"
#include "common/base/record_store.h"
#include "common/base/slice.h"

namespace mesh::io {

using Digest = std::array<uint8_t, 16>;

// One run of the kernel. All zero where it is not known.
using BootId = std::array<uint8_t, 16>;
BootId parse_boot_id(std::string_view text);
// From /proc; reads a file.
BootId current_boot_id();
// CLOCK_BOOTTIME: runs while the computer sleeps, and nobody sets it.
int64_t boottime_ns();

// As it lies on disk, in the host's byte order: a store does not travel.
struct RecordHeader {
  uint64_t magic;
  uint64_t size;  // of the value behind it
  BootId boot;
  int64_t written_ns;  // boottime_ns() of that boot
  Digest value_digest;
  Digest header_digest;  // of the key and all above
};
static_assert(sizeof(RecordHeader) == 72);

// The header of a record made of `value`, whose pieces follow each other.
RecordHeader make_header(const RecordKey& key, std::span<const Slice> value, const BootId& boot, int64_t written_ns);
// The header of what was stored under `key`; nothing if it is broken, or the value has another length. The value itself
// is not looked at.
std::optional<RecordHeader> read_header(const RecordKey& key, ByteView stored);
bool is_intact(const RecordHeader& header, ByteView value);
// Zero where that cannot be known.
Duration age_of(const RecordHeader& header, const BootId& boot, int64_t now_ns);

}  // namespace mesh::io
