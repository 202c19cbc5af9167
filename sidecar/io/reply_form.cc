#include "sidecar/io/reply_form.h"

#include <xxhash.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <ctime>

namespace mesh::io {
namespace {

constexpr uint64_t kForm = 0x3130'3070'6572'656DULL;  // "mererp001"
// Also what comes at once is worth a little.
constexpr int64_t kCostMin_us = 100;
// Most of what is asked for once never is again.
constexpr double kFirstUse = 0.1;
// Two writers of one clock may differ by so much.
constexpr int64_t kClockSlack_ms = 2000;

uint64_t check_of(const IndexKey& key, const EntryHeader& header, ByteView names) {
  const uint64_t of_key = XXH3_64bits(key.view().data(), key.view().size());
  const uint64_t of_header = XXH3_64bits_withSeed(&header, offsetof(EntryHeader, check), of_key);
  return XXH3_64bits_withSeed(names.data(), names.size(), of_header);
}

ByteView bytes_of(const std::vector<uint64_t>& names) {
  return {reinterpret_cast<const uint8_t*>(names.data()), names.size() * sizeof(uint64_t)};
}

}  // namespace

Content content_of(ByteView bytes) {
  const XXH128_hash_t hash = XXH3_128bits(bytes.data(), bytes.size());
  return {hash.low64, hash.high64};
}

IndexKey& IndexKey::add(uint64_t number) {
  std::memcpy(bytes_.data() + size_, &number, sizeof(number));
  size_ += sizeof(number);
  return *this;
}

uint64_t name_sum(ByteView key) { return key[0] == 'n' ? XXH3_64bits(key.data(), key.size()) : 0; }

ReplyHash hash_at_end(ByteView key) {
  ReplyHash hash;
  std::memcpy(&hash, key.last(sizeof(hash)).data(), sizeof(hash));
  return hash;
}

std::vector<uint8_t> pack(const IndexKey& key, Entry entry) {
  const ByteView names = bytes_of(entry.names);
  entry.header.names_count = static_cast<uint32_t>(entry.names.size());
  entry.header.check = check_of(key, entry.header, names);
  std::vector<uint8_t> bytes(sizeof(EntryHeader) + names.size());
  std::memcpy(bytes.data(), &entry.header, sizeof(EntryHeader));
  std::copy(names.begin(), names.end(), bytes.begin() + sizeof(EntryHeader));
  return bytes;
}

std::optional<Entry> unpack(const IndexKey& key, ByteView stored) {
  Entry entry;
  if (stored.size() < sizeof(EntryHeader)) return std::nullopt;
  std::memcpy(&entry.header, stored.data(), sizeof(EntryHeader));
  const ByteView names = stored.subspan(sizeof(EntryHeader));
  if (names.size() != entry.header.names_count * sizeof(uint64_t)) return std::nullopt;
  if (entry.header.check != check_of(key, entry.header, names)) return std::nullopt;
  entry.names.resize(entry.header.names_count);
  std::copy(names.begin(), names.end(), reinterpret_cast<uint8_t*>(entry.names.data()));
  return entry;
}

bool is_expired(const EntryHeader& header, int64_t now_ms) {
  return header.until_ms <= now_ms || header.put_ms > now_ms + kClockSlack_ms;
}

double worth_of(const EntryHeader& header) {
  const auto cost_us = static_cast<double>(std::max(header.cost_us, kCostMin_us));
  const double uses = header.uses > 1 ? header.uses : kFirstUse;
  return header.age + uses * cost_us / static_cast<double>(header.size + sizeof(EntryHeader));
}

ByteView seal(Totals& totals) {
  totals.form = kForm;
  totals.check = XXH3_64bits(&totals, offsetof(Totals, check));
  return {reinterpret_cast<const uint8_t*>(&totals), sizeof(totals)};
}

std::optional<Totals> read_totals(ByteView stored) {
  Totals totals;
  if (stored.size() != sizeof(totals)) return std::nullopt;
  std::memcpy(&totals, stored.data(), sizeof(totals));
  if (totals.form != kForm || totals.check != XXH3_64bits(&totals, offsetof(Totals, check))) return std::nullopt;
  return totals;
}

int64_t wall_ms() {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  return int64_t{now.tv_sec} * 1000 + now.tv_nsec / 1'000'000;
}

}  // namespace mesh::io
