// Which chunks of memory the arbiter has, and whose each is.
//
// The engine counts chunks like coins; here each has a number, by which agents name those they give back. A chunk that
// another user had, or that is sealed, is spent: it counts as free, but is melted down before somebody else gets it.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <vector>

#include "common/base/slice.h"
#include "common/gpu/extents.h"
#include "sidecar/arbiter/events.h"

namespace mesh::arbiter {

using ChunkNumber = uint64_t;  // never 0, never used twice while the keeper lives

struct ChunkRecord {
  ChunkNumber number = 0;
  GpuIndex gpu = 0;
  uint8_t size = 0;       // which of gpu::kExtentUnits
  LeaseId owner{};        // a lease or a segment; zero: it is free
  uint32_t user = 0;      // who had it last
  bool is_spent = false;  // nobody may get it as it is

  Units units() const { return gpu::kExtentUnits[size]; }
};

// A record as the keeper of descriptors holds it, beside each.
using ChunkLabel = std::array<uint8_t, 48>;
ChunkLabel label_of(const ChunkRecord& chunk);
std::optional<ChunkRecord> parse_label(ByteView label);

class ChunkBook {
 public:
  void add(const ChunkRecord& chunk);
  void remove(ChunkNumber number);
  // Null if there is none. Valid until it is removed.
  const ChunkRecord* find(ChunkNumber number) const;
  // In the order of their numbers.
  std::vector<ChunkNumber> of(LeaseId owner) const;
  // What these chunks are on each of its GPUs; nothing if one is not its own or named twice, or GPUs differ.
  std::optional<Extents> extents(LeaseId owner, std::span<const ChunkNumber> chunks) const;

  // A free one for that user, one that he can have as it is if there is one. 0 if none is free.
  ChunkNumber choose(GpuIndex gpu, uint8_t size, uint32_t user) const;
  // A free one that goes: a spent one if there is one. 0 if none is free.
  ChunkNumber choose_to_go(GpuIndex gpu, uint8_t size) const;
  static bool suits(const ChunkRecord& chunk, uint32_t user) { return !chunk.is_spent && chunk.user == user; }
  void give(ChunkNumber number, LeaseId owner, uint32_t user);
  void spend(LeaseId owner);
  // Its owner gives these back; the next take_back() takes them first.
  void offer(LeaseId owner, std::span<const ChunkNumber> chunks);
  void withdraw_offer() { offered_.clear(); }
  // So many of the owner's are free, fewer if it has not so many; which.
  std::vector<ChunkNumber> take_back(LeaseId owner, GpuIndex gpu, const Extents& extents);

  size_t size() const { return chunks_.size(); }
  template <class Visit>
  void for_each(Visit visit) const {
    for (const auto& [number, chunk] : chunks_) visit(chunk);
  }

 private:
  std::map<ChunkNumber, ChunkRecord> chunks_;
  std::map<LeaseId, std::vector<ChunkNumber>> by_owner_;  // the free ones under zero; each in order
  std::vector<ChunkNumber> offered_;
};

}  // namespace mesh::arbiter
