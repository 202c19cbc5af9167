// What callers outside the mesh see: the JSON error, and the header frame of the mesh socket.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "common/base/code.h"
#include "common/base/priority.h"
#include "common/base/result.h"
#include "common/base/slice.h"

namespace mesh::wire {

// The error as an existing JSON agent understands it, in both of their dialects:
// {"status":"error","error":…,"message":…,"code":…,"mesh":{"service","hop","stage","rule","hint"}}
std::string reply_for(const Error& error);

// The header frame of a call on the mesh socket.
struct MeshHeader {
  std::string service;
  std::string method;
  std::string id;   // echoed in the reply
  std::string key;  // idempotency key; empty: none
  std::optional<int64_t> budget_ms;
  std::optional<Priority> priority;
  bool is_json = false;  // the reply's header is written in the same format
};

// JSON when it begins with '{', else protobuf. INVALID with the field's name if it cannot be read; depth and size are
// bounded.
Result<MeshHeader> decode_mesh_header(ByteView frame);

// 16 hexadecimal digits.
std::string hexadecimal(uint64_t number);
// As people write the hash of a kept reply's key: 32 hexadecimal digits.
std::string key_text(uint64_t high, uint64_t low);

// What the cache did for a call. The texts have static storage.
struct CacheReport {
  std::string_view verdict;
  std::string_view tier;  // of a reply that was kept; else empty
  uint64_t age_ms = 0;
  uint64_t key_low = 0;  // of the key's hash
  uint64_t key_high = 0;
};

// The reply's header: id, code, for errors the same fields as in reply_for, and `cache` unless null.
std::string encode_mesh_reply(const MeshHeader& request, Code code, const Error* error,
                              const CacheReport* cache = nullptr);

}  // namespace mesh::wire
