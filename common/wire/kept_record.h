// What is written down of a call with an idempotency key whose method is durable: before it is executed that it is
// going to be, and before its reply leaves how it ended.
#pragma once

#include <cstdint>
#include <vector>

#include "common/base/code.h"
#include "common/base/result.h"
#include "common/base/slice.h"
#include "common/wire/digest.h"

namespace mesh::wire {

struct KeptRecord {
  Digest payload;          // of what was asked
  bool is_result = false;  // else an intent: it may have been executed, or not
  Code code = Code::kOk;
  bool has_body = true;  // false: it was too large to be kept
  std::vector<uint32_t> part_sizes;
  Slice body;
};

inline constexpr size_t kKeptHeadBytes = 24;

// The value of a record; the body is not copied.
std::vector<Slice> encode_kept(const KeptRecord& record);
// Without parts and body, from the first kKeptHeadBytes of a value or more. INVALID if it cannot be one.
Result<KeptRecord> decode_kept_head(ByteView head);
// The body is a view on the value, which stays alive with it. INVALID if the value cannot be one.
Result<KeptRecord> decode_kept(const Slice& value);

}  // namespace mesh::wire
