#include "sidecar/arbiter/chunk_book.h"

#include <algorithm>
#include <cstring>

#include "common/base/check.h"

namespace mesh::arbiter {
namespace {

// In the host's byte order: it never leaves the host.
struct Label {
  uint64_t number;
  uint64_t owner_high;
  uint64_t owner_low;
  uint32_t gpu;
  uint32_t user;
  uint8_t size;
  uint8_t is_spent;
  uint8_t reserved[14];
};
static_assert(sizeof(Label) == sizeof(ChunkLabel));

void insert(std::vector<ChunkNumber>& into, ChunkNumber number) {
  into.insert(std::lower_bound(into.begin(), into.end(), number), number);
}

}  // namespace

ChunkLabel label_of(const ChunkRecord& chunk) {
  Label label{};
  label.number = chunk.number;
  label.owner_high = chunk.owner.high;
  label.owner_low = chunk.owner.low;
  label.gpu = chunk.gpu;
  label.user = chunk.user;
  label.size = chunk.size;
  label.is_spent = chunk.is_spent ? 1 : 0;
  ChunkLabel bytes;
  std::memcpy(bytes.data(), &label, sizeof(label));
  return bytes;
}

std::optional<ChunkRecord> parse_label(ByteView bytes) {
  Label label{};
  if (bytes.size() < sizeof(label)) return std::nullopt;
  std::memcpy(&label, bytes.data(), sizeof(label));
  if (label.number == 0 || label.size >= gpu::kExtentSizes || label.gpu >= gpu::bounds::gpus_max) return std::nullopt;
  return ChunkRecord{.number = label.number,
                     .gpu = label.gpu,
                     .size = label.size,
                     .owner = {label.owner_high, label.owner_low},
                     .user = label.user,
                     .is_spent = label.is_spent != 0};
}

void ChunkBook::add(const ChunkRecord& chunk) {
  MESH_CHECK(chunk.number != 0 && chunks_.emplace(chunk.number, chunk).second);
  insert(by_owner_[chunk.owner], chunk.number);
}

void ChunkBook::remove(ChunkNumber number) {
  const auto found = chunks_.find(number);
  MESH_CHECK(found != chunks_.end());
  const auto owned = by_owner_.find(found->second.owner);
  std::erase(owned->second, number);
  if (owned->second.empty()) by_owner_.erase(owned);
  chunks_.erase(found);
}

const ChunkRecord* ChunkBook::find(ChunkNumber number) const {
  const auto found = chunks_.find(number);
  return found == chunks_.end() ? nullptr : &found->second;
}

std::vector<ChunkNumber> ChunkBook::of(LeaseId owner) const {
  const auto found = by_owner_.find(owner);
  return found == by_owner_.end() ? std::vector<ChunkNumber>() : found->second;
}

std::optional<Extents> ChunkBook::extents(LeaseId owner, std::span<const ChunkNumber> chunks) const {
  std::vector<ChunkNumber> sorted(chunks.begin(), chunks.end());
  std::sort(sorted.begin(), sorted.end());
  if (std::adjacent_find(sorted.begin(), sorted.end()) != sorted.end()) return std::nullopt;
  std::map<GpuIndex, Extents> on;
  for (const ChunkNumber number : of(owner)) on[chunks_.at(number).gpu];
  for (const ChunkNumber number : sorted) {
    const ChunkRecord* chunk = find(number);
    if (chunk == nullptr || !owner || chunk->owner != owner) return std::nullopt;
    ++on[chunk->gpu].count[chunk->size];
  }
  if (on.empty()) return Extents{};
  const Extents first = on.begin()->second;
  const bool are_alike = std::all_of(on.begin(), on.end(), [&](const auto& each) { return each.second == first; });
  return are_alike ? std::optional(first) : std::nullopt;
}

ChunkNumber ChunkBook::choose(GpuIndex gpu, uint8_t size, uint32_t user) const {
  ChunkNumber spent = 0;
  for (const ChunkNumber number : of({})) {
    const ChunkRecord& chunk = chunks_.at(number);
    if (chunk.gpu != gpu || chunk.size != size) continue;
    if (suits(chunk, user)) return number;
    spent = number;
  }
  return spent;
}

ChunkNumber ChunkBook::choose_to_go(GpuIndex gpu, uint8_t size) const {
  ChunkNumber whole = 0;
  for (const ChunkNumber number : of({})) {
    const ChunkRecord& chunk = chunks_.at(number);
    if (chunk.gpu != gpu || chunk.size != size) continue;
    if (chunk.is_spent) return number;
    whole = number;
  }
  return whole;
}

void ChunkBook::give(ChunkNumber number, LeaseId owner, uint32_t user) {
  ChunkRecord chunk = chunks_.at(number);
  remove(number);
  chunk.owner = owner;
  if (owner) chunk.user = user;
  add(chunk);
}

void ChunkBook::spend(LeaseId owner) {
  for (const ChunkNumber number : of(owner)) chunks_.at(number).is_spent = true;
}

void ChunkBook::offer(LeaseId owner, std::span<const ChunkNumber> chunks) {
  offered_.clear();
  for (const ChunkNumber number : chunks) {
    const ChunkRecord* chunk = find(number);
    if (chunk != nullptr && chunk->owner == owner) offered_.push_back(number);
  }
}

std::vector<ChunkNumber> ChunkBook::take_back(LeaseId owner, GpuIndex gpu, const Extents& extents) {
  Extents left = extents;
  std::vector<ChunkNumber> taken;
  const auto take = [&](ChunkNumber number) {
    const ChunkRecord* chunk = find(number);
    if (chunk == nullptr || chunk->owner != owner || chunk->gpu != gpu || left.count[chunk->size] == 0) return;
    --left.count[chunk->size];
    give(number, {}, 0);
    taken.push_back(number);
  };
  for (const ChunkNumber number : offered_) take(number);
  for (const ChunkNumber number : of(owner)) take(number);
  return taken;
}

}  // namespace mesh::arbiter
