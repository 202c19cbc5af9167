#include "common/cache/kept_form.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <utility>

#include "common/base/limits.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace mesh::cache {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr uint32_t kMagic = 0x31464B4D;  // "MKF1"

// As it lies there.
struct Head {
  uint64_t sum;
  uint32_t magic;
  uint32_t bytes;
  Hash hash;
  uint64_t service;
  uint64_t method;
  uint64_t origin_name;
  uint64_t since;
  int64_t stored_at_us;
  int64_t fresh_until_us;
  int64_t revalidate_until_us;
  int64_t error_until_us;
  int64_t cost_us;
  uint32_t key_bytes;
  uint32_t body_bytes;
  uint16_t tags;
  uint16_t parts;
  uint32_t echoes;
};
static_assert(sizeof(Head) == kKeptFormHeadBytes);
static_assert(sizeof(Echo) == 12);

uint64_t bytes_of(const Head& head) {
  return sizeof(Head) + 8ULL * head.tags + sizeof(Echo) * uint64_t{head.echoes} + 4ULL * head.parts + head.key_bytes +
         head.body_bytes;
}

bool is_within_limits(size_t tags, size_t parts, size_t echoes) {
  return tags <= limits::cache_tags_max && parts <= limits::frames_per_reply_max && echoes <= kKeptFormEchoesMax;
}

// A time too far off to be told in nanoseconds is never.
Instant to_instant(int64_t us) {
  if (us >= to_us(kNever.time_since_epoch())) return kNever;
  return Instant(microseconds(std::max<int64_t>(us, 0)));
}
int64_t to_us(Instant instant) { return mesh::to_us(instant.time_since_epoch()); }

std::optional<Head> read_head(ByteView bytes) {
  Head head;
  if (bytes.size() < sizeof(head)) return std::nullopt;
  std::memcpy(&head, bytes.data(), sizeof(head));
  if (head.magic != kMagic || !is_within_limits(head.tags, head.parts, head.echoes)) return std::nullopt;
  if (head.bytes != bytes_of(head)) return std::nullopt;
  return head;
}

bool has_right_sum(const Head& head, ByteView bytes) {
  return head.bytes <= bytes.size() && XXH3_64bits(bytes.data() + 8, head.bytes - 8) == head.sum;
}

uint8_t* append(uint8_t* to, const void* from, size_t bytes) {
  if (bytes > 0) std::memcpy(to, from, bytes);
  return to + bytes;
}

template <class T>
size_t take(const Slice& bytes, size_t at, size_t count, std::vector<T>& to) {
  to.resize(count);
  if (count > 0) std::memcpy(to.data(), bytes.data() + at, count * sizeof(T));
  return at + count * sizeof(T);
}

bool is_consistent(const Kept& kept) {
  uint64_t end = 0;
  for (const Echo& echo : kept.echoes) {
    if (echo.offset < end) return false;
    end = uint64_t{echo.offset} + echo.size;
  }
  if (end > kept.body.size()) return false;
  uint64_t sum = 0;
  for (const uint32_t size : kept.part_sizes) sum += size;
  return kept.part_sizes.empty() || sum == kept.body.size();
}

Head head_of(const Kept& kept, uint64_t origin_name) {
  Head head{};
  head.magic = kMagic;
  head.hash = kept.key.hash;
  head.service = kept.service;
  head.method = kept.method;
  head.origin_name = origin_name;
  head.since = kept.since;
  head.stored_at_us = to_us(kept.stored_at);
  head.fresh_until_us = to_us(kept.fresh_until);
  head.revalidate_until_us = to_us(kept.revalidate_until);
  head.error_until_us = to_us(kept.error_until);
  head.cost_us = kept.cost_us;
  head.key_bytes = static_cast<uint32_t>(kept.key.text.size());
  head.body_bytes = static_cast<uint32_t>(kept.body.size());
  head.tags = static_cast<uint16_t>(kept.tags.size());
  head.parts = static_cast<uint16_t>(kept.part_sizes.size());
  head.echoes = static_cast<uint32_t>(kept.echoes.size());
  head.bytes = static_cast<uint32_t>(bytes_of(head));
  return head;
}

}  // namespace

std::optional<KeptFormHead> read_kept_form_head(ByteView bytes) {
  const auto head = read_head(bytes);
  if (!head) return std::nullopt;
  const int64_t useful_until_us = std::max({head->fresh_until_us, head->revalidate_until_us, head->error_until_us});
  return KeptFormHead{head->bytes, head->hash, to_instant(useful_until_us)};
}

uint64_t kept_form_bytes(const Kept& kept) {
  if (!is_within_limits(kept.tags.size(), kept.part_sizes.size(), kept.echoes.size())) return 0;
  if (kept.key.text.size() > limits::message_bytes || kept.body.size() > limits::message_bytes) return 0;
  return bytes_of(head_of(kept, 0));
}

Slice encode_kept_form(const Kept& kept, uint64_t origin_name) {
  if (kept_form_bytes(kept) == 0 || !is_consistent(kept)) return {};
  Head head = head_of(kept, origin_name);
  BlockRef block = Block::allocate(head.bytes);
  uint8_t* const begin = block->data();
  uint8_t* to = append(begin, &head, sizeof(head));
  to = append(to, kept.tags.data(), 8 * kept.tags.size());
  to = append(to, kept.echoes.data(), sizeof(Echo) * kept.echoes.size());
  to = append(to, kept.part_sizes.data(), 4 * kept.part_sizes.size());
  to = append(to, kept.key.text.data(), kept.key.text.size());
  append(to, kept.body.data(), kept.body.size());
  head.sum = XXH3_64bits(begin + 8, head.bytes - 8);
  std::memcpy(begin, &head.sum, sizeof(head.sum));
  return Slice(std::move(block), begin, head.bytes);
}

std::optional<Found> decode_kept_form(const Slice& bytes) {
  const auto head = read_head(bytes.view());
  if (!head || !has_right_sum(*head, bytes.view())) return std::nullopt;
  Found found;
  Kept& kept = found.kept;
  size_t at = take(bytes, sizeof(Head), head->tags, kept.tags);
  at = take(bytes, at, head->echoes, kept.echoes);
  at = take(bytes, at, head->parts, kept.part_sizes);
  kept.key = {head->hash, bytes.part(at, head->key_bytes)};
  kept.body = bytes.part(at + head->key_bytes, head->body_bytes);
  if (!is_consistent(kept)) return std::nullopt;
  kept.service = head->service;
  kept.method = head->method;
  kept.since = head->since;
  kept.stored_at = to_instant(head->stored_at_us);
  kept.fresh_until = to_instant(head->fresh_until_us);
  kept.revalidate_until = to_instant(head->revalidate_until_us);
  kept.error_until = to_instant(head->error_until_us);
  kept.cost_us = head->cost_us;
  found.origin_name = head->origin_name;
  return found;
}

bool is_intact_kept_form(ByteView bytes) {
  const auto head = read_head(bytes);
  return head && has_right_sum(*head, bytes);
}

}  // namespace mesh::cache
