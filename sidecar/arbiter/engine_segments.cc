// Shared weights: who joins their readers, and how they are asked back.
//
// They are one victim: their memory is there as long as one of them reads it, and comes free when the last one is gone.
// So all are asked or none, and none while one of them did not agree to be.
#include <algorithm>

#include "common/base/check.h"
#include "sidecar/arbiter/engine.h"

namespace mesh::arbiter {

using gpu::LeaseKind;
using gpu::LeaseState;
using gpu::mask_of;
using gpu::Revocability;
using gpu::SegmentState;
using gpu::Waiter;

// The weights it asks for, if they are there or are being loaded.
const gpu::Segment* Engine::segment_of(const Entry& entry) {
  const gpu::Segment* segment = nullptr;
  for_each_gpu(entry.lease.request.gpus, [&](GpuIndex gpu) {
    if (segment == nullptr) segment = segments_.find({entry.lease.request.model, entry.layout, gpu});
  });
  return segment;
}

// That takes no more memory, however little there is. True if it waits in the queue no more.
bool Engine::join_segment(Entry& entry, const gpu::Segment& known, Instant now, Actions& out) {
  gpu::Lease& lease = entry.lease;
  gpu::Segment* segment = segments_.find(known.id);
  // It takes nothing, but who joins and joins would keep it there for ever.
  const bool is_drained = gpus_[segment->key.gpu].is_drained;
  if (is_asked_back(*segment) || is_in_the_way(*segment, now)) {
    explain(lease.id, is_drained ? Reason::kDrained : Reason::kReserved, segment->key.gpu, 0, out);
    return false;
  }
  const double weight = gpu::weight_of(lease.request.priority);
  const auto joined = segments_.join(*segment, lease.id, weight, gpus_[segment->key.gpu].worth);
  if (joined == gpu::Segments::Joined::kFull) {
    refuse(entry, Code::kOverloaded, Reason::kTooMany, out);
    return true;
  }
  entry.segment = segment->id;
  lease.epoch = epoch_;
  lease.on = mask_of(segment->key.gpu);
  lease.granted_at = now;
  lease.renew(now);
  lease.become(LeaseState::kReserved);
  queue_.remove(lease.id);
  if (joined == gpu::Segments::Joined::kShares) hand_over(entry, out);
  return true;
}

// Whether somebody who waited too long cannot have his memory while all weights that are in use on the card stay.
bool Engine::is_in_the_way(const gpu::Segment& segment, Instant now) const {
  if (gpus_[segment.key.gpu].is_drained) return true;
  const gpu::Reservation* reservation = queue_.reserved(segment.key.gpu);
  if (reservation == nullptr) return false;
  const Waiter& holder = *queue_.find(reservation->id);
  if (holder.aged_at() > now) return false;
  Units in_use = segment.state == gpu::SegmentState::kIdle ? segment.units : 0;
  segments_.for_each([&](const gpu::Segment& each) {
    if (each.key.gpu == segment.key.gpu && each.state != gpu::SegmentState::kIdle) in_use += each.units;
  });
  return gpus_[segment.key.gpu].ledger.capacity() - in_use < holder.least;
}

// Who asks for weights that are there, or are being loaded, takes no memory.
bool Engine::needs_memory(const Waiter& waiter) {
  const auto found = entries_.find(waiter.id);  // a plan's has none
  const bool is_shared = found != entries_.end() && found->second.lease.request.kind == LeaseKind::kShared;
  return !is_shared || segment_of(found->second) == nullptr;
}

// Whether all who read it can be asked to let it go; for that waiter, if there is one.
bool Engine::may_ask_readers(const gpu::Segment& segment, const Waiter* waiter, Instant now) const {
  if (segment.state != SegmentState::kSealed) return false;
  return std::all_of(segment.users.begin(), segment.users.end(), [&](LeaseId id) {
    const Entry& reader = entries_.at(id);
    const bool will_let_go = reader.is_handed && !reader.ladder && reader.lease.connection != 0 &&
                             reader.refused_until <= now && reader.lease.request.revocability >= Revocability::kOffload;
    return will_let_go && (waiter == nullptr || is_due(reader, *waiter, now));
  });
}

// Whether all who read it were asked, and none of them will keep it.
bool Engine::is_asked_back(const gpu::Segment& segment) const {
  return segment.state == SegmentState::kSealed &&
         std::all_of(segment.users.begin(), segment.users.end(),
                     [this](LeaseId id) { return entries_.at(id).ladder.has_value(); });
}

// Its content is not theirs to keep elsewhere.
void Engine::ask_readers(const gpu::Segment& segment, LeaseId beneficiary, Instant now, Actions& out) {
  for (const LeaseId id : segment.users) {
    Entry& reader = entries_.at(id);
    const Revocability agreed = std::max(reader.lease.request.revocability, Revocability::kRelease);
    ask_yield(reader, agreed, segment.units, beneficiary, now, out);
  }
}

// Nobody reads it any more who was asked to let it go for that waiter: whether it has to go, or may be kept as idle.
bool Engine::is_still_wanted(const gpu::Segment& segment, LeaseId beneficiary) const {
  const GpuState& state = gpus_[segment.key.gpu];
  if (segment.is_unwanted || state.is_drained || state.ledger.excess() > state.ledger.drawn()) return true;
  const Waiter* waiter = queue_.find(beneficiary);
  return waiter != nullptr && state.ledger.grantable() < waiter->least;
}

// An idle one.
void Engine::evict_segment(const gpu::Segment& segment, Instant now, Actions& out) {
  MESH_CHECK(segment.state == SegmentState::kIdle);
  GpuState& state = gpus_[segment.key.gpu];
  state.worth.evicted(segment.score);
  state.swaps.spend(segment.units, now);
  ghosts_.evicted(segment.key.content, now, segment.units, segment.load_time);
  drop_segment(segment, out);
}

}  // namespace mesh::arbiter
