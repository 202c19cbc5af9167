#include "common/wire/kept_record.h"

#include <cstring>

#include "common/base/limits.h"

namespace mesh::wire {
namespace {

constexpr uint8_t kVersion = 1;
constexpr uint8_t kFlagResult = 1;
constexpr uint8_t kFlagBody = 2;

Unexpected broken(const char* what) { return fail(Code::kInvalid, "kept_record", what); }

}  // namespace

// version, flags, code, number of parts, 4 bytes 0; the digest; a size for each part, little-endian; the body.
std::vector<Slice> encode_kept(const KeptRecord& record) {
  std::vector<uint8_t> head(kKeptHeadBytes + 4 * record.part_sizes.size());
  head[0] = kVersion;
  head[1] = static_cast<uint8_t>((record.is_result ? kFlagResult : 0) | (record.has_body ? kFlagBody : 0));
  head[2] = static_cast<uint8_t>(record.code);
  head[3] = static_cast<uint8_t>(record.part_sizes.size());
  std::memcpy(head.data() + 8, record.payload.bytes.data(), record.payload.bytes.size());
  if (!record.part_sizes.empty())
    std::memcpy(head.data() + kKeptHeadBytes, record.part_sizes.data(), 4 * record.part_sizes.size());
  std::vector<Slice> value{Slice::copy_of(ByteView(head))};
  if (!record.body.empty()) value.push_back(record.body);
  return value;
}

Result<KeptRecord> decode_kept_head(ByteView head) {
  if (head.size() < kKeptHeadBytes) return broken("is too short");
  if (head[0] != kVersion) return broken("has an unknown version");
  if ((head[1] & ~(kFlagResult | kFlagBody)) != 0) return broken("has unknown flags");
  if (head[2] >= kCodeCount) return broken("has an unknown code");
  if (head[3] > limits::frames_per_reply_max) return broken("has too many parts");
  KeptRecord record;
  record.is_result = (head[1] & kFlagResult) != 0;
  record.has_body = (head[1] & kFlagBody) != 0;
  record.code = static_cast<Code>(head[2]);
  std::memcpy(record.payload.bytes.data(), head.data() + 8, record.payload.bytes.size());
  return record;
}

Result<KeptRecord> decode_kept(const Slice& value) {
  auto record = decode_kept_head(value.view());
  if (!record) return record;
  const size_t parts = value.data()[3];
  const size_t body_at = kKeptHeadBytes + 4 * parts;
  if (value.size() < body_at) return broken("ends within its parts");
  record->part_sizes.resize(parts);
  if (parts > 0) std::memcpy(record->part_sizes.data(), value.data() + kKeptHeadBytes, 4 * parts);
  record->body = value.part(body_at, value.size() - body_at);
  uint64_t sum = 0;
  for (const uint32_t size : record->part_sizes) sum += size;
  if (parts > 0 && sum != record->body.size()) return broken("has parts that are not its body");
  return record;
}

}  // namespace mesh::wire
