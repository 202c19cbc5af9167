// Who is granted what, and who has to wait for which reason.
#include <algorithm>
#include <bit>
#include <utility>

#include "common/base/check.h"
#include "sidecar/arbiter/engine.h"

namespace mesh::arbiter {

using gpu::LeaseKind;
using gpu::LeaseState;
using gpu::mask_of;
using gpu::Waiter;
namespace bounds = gpu::bounds;

void Engine::admit(Instant now, Actions& out) {
  if (queue_.size() == 0) return;
  if (!is_reconciled(now)) {
    for (const Waiter* waiter : queue_.order(shares_))
      explain(waiter->id, Reason::kNotReconciled, 0, waiter->least, out);
    return;
  }
  shares_.advance(now);
  reserve_for_aged(now);
  while (grant_next(now, out)) {
  }
}

// Who reserved, and for whom it is complete by now, first: otherwise whoever steps back when asked would take of it in
// his turn, be asked, and leave room for the next of those, for as long as any come.
bool Engine::grant_next(Instant now, Actions& out) {
  std::fill(shadows_.begin(), shadows_.end(), std::nullopt);
  for (const gpu::Reservation& reservation : queue_.reservations()) {
    const Waiter& holder = *queue_.find(reservation.id);
    if (is_complete(reservation, holder) && try_grant(holder, now, out)) return true;
  }
  for (const Waiter* waiter : queue_.order(shares_)) {
    if (try_grant(*waiter, now, out)) return true;
  }
  return false;
}

bool Engine::is_complete(const gpu::Reservation& reservation, const Waiter& holder) const {
  bool is_complete = true;
  for_each_gpu(reservation.on,
               [&](GpuIndex gpu) { is_complete = is_complete && gpus_[gpu].ledger.grantable() >= holder.least; });
  return is_complete;
}

bool Engine::try_grant(const Waiter& waiter, Instant now, Actions& out) {
  Entry& entry = entries_.at(waiter.id);
  if (entry.lease.request.kind == LeaseKind::kShared) {
    if (const gpu::Segment* known = segment_of(entry)) return join_segment(entry, *known, now, out);
    if (segments_.size() >= bounds::segments_max) {
      refuse(entry, Code::kOverloaded, Reason::kTooMany, out);
      return true;
    }
  }
  struct Fit {
    GpuIndex gpu;
    Units free;
    bool is_left;  // it has some of it still
  };
  std::vector<Fit> fits;
  for_each_gpu(waiter.gpus, [&](GpuIndex gpu) {
    Reason why = Reason::kNone;
    Units free = free_for(waiter, gpu, why, now);
    const Units with_left = waiter.gpu_count == 1 ? free_with_left(waiter, gpu) : 0;
    const bool is_left = with_left > 0 && with_left >= waiter.least;
    if (is_left) free = with_left, why = Reason::kNone;
    if (free >= waiter.least && free > 0) fits.push_back({gpu, free, is_left});
    if (why != Reason::kNone) explain(waiter.id, why, gpu, waiter.least - free, out);
  });
  if (fits.size() < waiter.gpu_count) return draw_on_reserve(waiter, now, out);
  // Where it is already, then the coolest, then where most is free: that card is used least.
  std::stable_sort(fits.begin(), fits.end(), [this](const Fit& a, const Fit& b) {
    if (a.is_left != b.is_left) return a.is_left;
    const gpu::Band at_a = gpus_[a.gpu].thermal.band();
    const gpu::Band at_b = gpus_[b.gpu].thermal.band();
    return at_a != at_b ? at_a < at_b : a.free > b.free;
  });
  GpuMask on = 0;
  Units units = waiter.ask;
  for (size_t i = 0; i < waiter.gpu_count; ++i) {
    on |= mask_of(fits[i].gpu);
    units = std::min(units, fits[i].free);
  }
  if (fits[0].is_left) take_up(entry, fits[0].gpu, units, now, out);
  for_each_gpu(on, [&](GpuIndex gpu) { MESH_CHECK(gpus_[gpu].ledger.take(waiter.id, units)); });
  grant(entry, on, units, now, out);
  return true;
}

// Whether it is what the same process had of the same model through another, who said that it is free or is gone, and
// that was not seen to be free: if it is leased for that process again it is the same memory, and there is nothing to
// wait for.
bool Engine::is_left_of(const Entry& asks, const Entry& other, GpuIndex gpu) {
  const gpu::Lease& a = asks.lease;
  const gpu::Lease& b = other.lease;
  const bool is_same = a.used_by == b.used_by && a.request.model == b.request.model && a.request.model;
  const bool is_through_others = a.process != a.used_by && b.process != b.used_by;
  const bool is_accounted = a.request.kind == LeaseKind::kAccounted && b.request.kind == LeaseKind::kAccounted;
  return is_same && is_through_others && is_accounted && other.unseen > 0 && b.units == 0 && b.on == mask_of(gpu);
}

// What it could have there with what it has still; 0 if there is nothing of that.
Units Engine::free_with_left(const Waiter& waiter, GpuIndex gpu) const {
  const Entry& asks = entries_.at(waiter.id);
  Units left = 0;
  for (const auto& [id, other] : entries_) left += is_left_of(asks, other, gpu) ? other.unseen : 0;
  if (left == 0 || closed(waiter, gpu) != Reason::kNone) return 0;
  const gpu::Ledger& ledger = gpus_[gpu].ledger;
  const gpu::Reservation* reservation = queue_.reserved(gpu);
  const Units all = ledger.capacity() - ledger.leased() + left;
  return reservation == nullptr || reservation->id == waiter.id ? all : std::min(left, all);
}

// As much of it as it gets.
void Engine::take_up(const Entry& asks, GpuIndex gpu, Units units, Instant now, Actions& out) {
  std::vector<LeaseId> left;
  for (const auto& [id, other] : entries_) {
    if (is_left_of(asks, other, gpu)) left.push_back(id);
  }
  for (const LeaseId id : left) {
    Entry& other = entries_.at(id);
    const Units part = std::min(other.unseen, units);
    if (part == 0) return;
    units -= part;
    other.unseen -= part;
    come_back(other, part, {}, now, out);
  }
}

// Who cannot wait a second, and gives it back when asked, may have some of the emergency reserve for a while.
bool Engine::draw_on_reserve(const Waiter& waiter, Instant now, Actions& out) {
  const bool is_urgent = waiter.priority == Priority::kCritical && waiter.revocable && waiter.gpu_count == 1 &&
                         waiter.deadline - now < milliseconds(bounds::draw_deadline_ms);
  if (!is_urgent) return false;
  for (GpuIndex gpu = 0; gpu < gpus_.size(); ++gpu) {
    if ((waiter.gpus & mask_of(gpu)) == 0 || closed(waiter, gpu) != Reason::kNone) continue;
    if (!gpus_[gpu].ledger.draw(waiter.id, waiter.least, gpu::Draw::kCritical, now)) continue;
    grant(entries_.at(waiter.id), mask_of(gpu), waiter.least, now, out);
    return true;
  }
  return false;
}

// Why nothing of that card is granted to it, however much is free.
Reason Engine::closed(const Waiter& waiter, GpuIndex gpu) const {
  const GpuState& state = gpus_[gpu];
  if (state.is_drained) return Reason::kDrained;
  if (state.ledger.pressure() == gpu::Pressure::kRed) return Reason::kPressure;
  const bool is_hot = state.thermal.band() >= gpu::Band::kHot;
  return is_hot && waiter.priority == Priority::kBatch ? Reason::kHeat : Reason::kNone;
}

Units Engine::free_for(const Waiter& waiter, GpuIndex gpu, Reason& why, Instant now) {
  why = closed(waiter, gpu);
  if (why != Reason::kNone) return 0;
  const Units free = gpus_[gpu].ledger.grantable();
  const gpu::Reservation* reservation = queue_.reserved(gpu);
  if (free < waiter.least || reservation == nullptr || reservation->id == waiter.id) return free;
  const Waiter& holder = *queue_.find(reservation->id);
  for (const Units units : {std::min(waiter.ask, free), waiter.least}) {
    if (may_pass(waiter, holder, gpu, units, now)) return units;
  }
  why = Reason::kReserved;
  return 0;
}

bool Engine::may_pass(const Waiter& waiter, const Waiter& holder, GpuIndex gpu, Units units, Instant now) {
  // What somebody is giving up for the holder is not for others to pick up on the way; nor, of one who waits for
  // several cards, what is ready on another: they would be asked for each in turn, and never be ready at once.
  for (const auto& [id, entry] : entries_) {
    if (entry.ladder && entry.beneficiary == holder.id) return false;
  }
  const GpuState& state = gpus_[gpu];
  const gpu::SizeClass size = gpu::class_of(units);
  const Units held = held_by_class(gpu)[static_cast<size_t>(size)] + units;
  const bool is_above_floor = state.floors.evictable(size, held, gpu::class_of(holder.least)) >= units;
  const bool would_be_asked = holder.aged_at() <= now || (is_above_floor && waiter.priority > holder.priority);
  const bool is_other = entries_.at(waiter.id).lease.used_by != entries_.at(holder.id).lease.used_by;
  const gpu::Backfill asked{units, waiter.hold, waiter.revocable && would_be_asked && is_other};
  return may_backfill(asked, shadow(holder, gpu, now), now);
}

const gpu::Shadow& Engine::shadow(const Waiter& holder, GpuIndex gpu, Instant now) {
  std::optional<gpu::Shadow>& known = shadows_[gpu];
  if (known) return *known;
  std::vector<gpu::ExpectedEnd> ends;
  for (const auto& [id, entry] : entries_) {
    if ((entry.lease.on & mask_of(gpu)) == 0 || !entry.is_held()) continue;
    // What it yields when asked is soon there, the rest when it is done.
    const Units whole = entry.lease.units + entry.unseen;
    Units soon = entry.unseen;
    if (entry.ladder) {
      soon += std::min(entry.ladder->units(), entry.lease.units);
    } else if (may_take(entry, holder, now)) {
      soon += entry.lease.yieldable();
    }
    const bool is_known = entry.lease.state != LeaseState::kDying && entry.lease.request.hold_hint > Duration{};
    ends.push_back({now + milliseconds(bounds::grace_ms), soon});
    ends.push_back({is_known ? entry.lease.granted_at + entry.lease.request.hold_hint : kNever, whole - soon});
  }
  known = shadow_of(holder.least, gpus_[gpu].ledger.grantable(), ends, now);
  return *known;
}

// The ledgers have it already.
void Engine::grant(Entry& entry, GpuMask on, Units units, Instant now, Actions& out) {
  gpu::Lease& lease = entry.lease;
  queue_.remove(lease.id);
  lease.epoch = epoch_;
  lease.on = on;
  lease.units = units;
  lease.granted_at = now;
  lease.renew(now);
  lease.become(LeaseState::kReserved);
  const GpuState& first = gpus_[static_cast<size_t>(std::countr_zero(on))];
  const double weight = gpu::weight_of(lease.request.priority);
  lease.score = first.worth.score(1, lease.request.load_time, weight, units) * ghosts_.factor(lease.request.model, now);
  if (ghosts_.is_thrashing(lease.request.model, now)) queue_.favour(lease.request.model);
  const Duration hint = lease.request.hold_hint;
  const Duration expected = hint > Duration{} ? hint : milliseconds(bounds::hold_hint_ms);
  shares_.begin(lease.id, lease.request.priority, units * std::popcount(on), expected, now);
  if (lease.request.kind == LeaseKind::kShared) {
    // What it holds is the segment's from now on.
    const auto gpu = static_cast<GpuIndex>(std::countr_zero(on));
    lease.units = 0;
    entry.segment = lease.id;
    write(*segments_.create({lease.request.model, entry.layout, gpu}, lease.id, units, lease.id, weight, now), out);
  }
  if (lease.request.kind == LeaseKind::kAccounted) {
    trim_pools(out);  // its room has to be free before it is told
    return hand_over(entry, out);
  }
  write(entry, out);
  for_each_gpu(on, [&](GpuIndex gpu) { create_chunks(entry, gpu, units, out); });
}

void Engine::create_chunks(Entry& entry, GpuIndex gpu, Units units, Actions& out) {
  GpuState& state = gpus_[gpu];
  const gpu::Ledger& ledger = state.ledger;
  const Units room = ledger.capacity() + ledger.drawn() - (ledger.leased() - units) - state.pool.free().units();
  const auto plan = state.pool.take(units, room);
  MESH_CHECK(plan.has_value());
  if (entry.lease.request.kind == LeaseKind::kBacked) entry.extents = plan->take;
  ++entry.chunks_pending;
  out.push_back(CreateChunks{entry.lease.id, gpu, *plan});
}

// Its holder is told: what is in the journal before that is his.
void Engine::hand_over(Entry& entry, Actions& out) {
  gpu::Lease& lease = entry.lease;
  const gpu::Segment* segment = segments_.find(entry.segment);
  const bool is_writer = segment != nullptr && segment->writer == lease.id;
  if (segment != nullptr && !is_writer && lease.state == LeaseState::kReserved) {
    lease.is_committed = true;
    lease.become(LeaseState::kActive);
  }
  entry.is_handed = true;
  entry.why = Reason::kNone;
  write(entry, out);
  const Units units = segment != nullptr ? segment->units : lease.units;
  out.push_back(SendGrant{lease.connection, lease.id, lease.epoch, units, lease.on, lease.request.kind, entry.segment,
                          is_writer});
}

// One that waits; the entry is gone.
void Engine::refuse(Entry& entry, Code code, Reason reason, Actions& out) {
  const LeaseId id = entry.lease.id;
  out.push_back(SendRefusal{entry.lease.connection, id, code, reason, 0});
  queue_.remove(id);
  entries_.erase(id);
}

void Engine::explain(LeaseId id, Reason reason, GpuIndex gpu, Units missing, Actions& out) {
  Entry& entry = entries_.at(id);
  if (entry.why == reason) return;
  entry.why = reason;
  out.push_back(RecordDecision{id, entry.lease.process, reason, gpu, missing});
}

// Where it could be at all, as others leave it room.
GpuMask Engine::roomy(const Waiter& waiter) {
  GpuMask roomy = 0;
  if (!needs_memory(waiter)) return roomy;
  for_each_gpu(waiter.gpus, [&](GpuIndex gpu) {
    if (gpus_[gpu].ledger.capacity() >= waiter.least) roomy |= mask_of(gpu);
  });
  return roomy;
}

// Where it can have what it needs soonest. What is reserved and has become impossible is given up.
void Engine::reserve_for_aged(Instant now) {
  const std::vector<gpu::Reservation> before = queue_.reservations();
  for (const gpu::Reservation& reservation : before) {
    if ((reservation.on & ~roomy(*queue_.find(reservation.id))) != 0) queue_.unreserve(reservation.id);
  }
  const auto open_for = [this](const Waiter& waiter) { return roomy(waiter) & ~queue_.reserved_gpus(); };
  while (const Waiter* waiter = queue_.next_to_reserve(shares_, now, open_for)) {
    struct Choice {
      GpuIndex gpu;
      Instant at;
      Units grantable;
    };
    std::vector<Choice> choices;
    std::fill(shadows_.begin(), shadows_.end(), std::nullopt);
    for_each_gpu(open_for(*waiter), [&](GpuIndex gpu) {
      choices.push_back({gpu, shadow(*waiter, gpu, now).at, gpus_[gpu].ledger.grantable()});
    });
    std::stable_sort(choices.begin(), choices.end(), [](const Choice& a, const Choice& b) {
      return a.at != b.at ? a.at < b.at : a.grantable > b.grantable;
    });
    GpuMask on = 0;
    for (size_t i = 0; i < waiter->gpu_count; ++i) on |= mask_of(choices[i].gpu);
    queue_.reserve(waiter->id, on, now);
  }
}

}  // namespace mesh::arbiter
