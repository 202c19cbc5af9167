// Weights that several agents read: loaded once, held once.
//
// One writer loads, all others who ask for the same wait for that load. When it is sealed nobody writes to it any more,
// and it lives as long as a connection maps it: who uses it is known from who is connected, never from a number that a
// client keeps and forgets to count down when it dies. Without users it stays as long as there is room for idle ones.
#pragma once

#include <cstdint>
#include <optional>
#include <unordered_map>
#include <vector>

#include "common/base/instant.h"
#include "common/gpu/bounds.h"
#include "common/gpu/reclaim.h"
#include "common/gpu/units.h"

namespace mesh::gpu {

// The same content in another layout, or on another card, is another segment.
struct SegmentKey {
  Id content{};
  Id layout{};
  uint32_t gpu = 0;
  bool operator==(const SegmentKey&) const = default;
};
struct HashOfSegmentKey {
  size_t operator()(const SegmentKey& key) const {
    return HashOfId()(key.content) * 31 + HashOfId()(key.layout) * 7 + key.gpu;
  }
};

enum class SegmentState : uint8_t {
  kLoading,
  kAbandoned,  // its writer hung up and may still be writing: nobody may until its process is gone
  kSealed,     // with users
  kIdle,       // sealed, without
};

struct Segment {
  SegmentKey key{};
  LeaseId id{};  // under which the ledger holds its memory
  SegmentState state = SegmentState::kLoading;
  Units units = 0;
  LeaseId writer{};
  std::vector<LeaseId> users{};    // leases of connections that map it
  std::vector<LeaseId> waiting{};  // in the order in which they came
  Instant load_began{};
  Duration load_time{};  // as measured; an estimate until it is sealed
  uint32_t uses = 0;
  double weight = 1;  // the highest of those who used it
  double score = 0;
  bool is_unwanted = false;  // an operator wants it gone: it is not kept when nobody uses it any more
};

class Segments {
 public:
  enum class Joined : uint8_t {
    kWaits,   // for the load that is under way
    kShares,  // may map it now
    kFull,    // too many already
  };

  // Null if there is none. Valid until the next call that adds or removes one.
  Segment* find(const SegmentKey& key);
  Segment* find(LeaseId id);
  // Memory was granted for one that there is not: `writer` loads it. Null if there are too many.
  Segment* create(const SegmentKey& key, LeaseId id, Units units, LeaseId writer, double weight, Instant now);
  // Takes over a sealed one after a restart.
  Segment* adopt(const SegmentKey& key, LeaseId id, Units units, Duration load_time);
  Joined join(Segment& segment, LeaseId lease, double weight, const Worth& worth);

  // The writer says it is complete. Who waited may map it now: appended to `ready`. False if it is not the writer.
  bool seal(Segment& segment, LeaseId writer, const Worth& worth, Instant now, std::vector<LeaseId>& ready);
  // A connection is closed, as reader, writer or waiter.
  void leave(Segment& segment, LeaseId lease, const Worth& worth, Instant now);
  // The writer's process is gone, so nobody writes: the next who waits loads, and is given. Nothing if nobody waits:
  // the segment is of no use then, and to be erased.
  std::optional<LeaseId> promote(Segment& segment, Instant now);
  void erase(LeaseId id);

  // Of the idle ones on the card, in no order.
  std::vector<const Segment*> idle_on(uint32_t gpu) const;
  // The one to go as the idle hold more than their bound; null if they do not.
  const Segment* surplus(uint32_t gpu, Units idle_max = bounds::idle_segments_units) const;
  Units idle_units(uint32_t gpu) const;
  size_t size() const { return by_id_.size(); }
  template <class Visit>
  void for_each(Visit visit) const {
    for (const auto& [id, segment] : by_id_) visit(segment);
  }

 private:
  void value(Segment& segment, const Worth& worth) const;
  void settle(Segment& segment, const Worth& worth);

  std::unordered_map<LeaseId, Segment, HashOfId> by_id_;
  std::unordered_map<SegmentKey, LeaseId, HashOfSegmentKey> by_key_;
};

}  // namespace mesh::gpu
