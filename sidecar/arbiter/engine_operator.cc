// What people order and ask.
#include <algorithm>
#include <bit>

#include "sidecar/arbiter/engine.h"

namespace mesh::arbiter {

using gpu::mask_of;
using gpu::Waiter;
namespace bounds = gpu::bounds;

namespace {

// As if he asked now.
Waiter as_waiter(const gpu::Request& request, Instant now) {
  Waiter waiter{.priority = request.priority, .least = request.least(), .ask = request.ask(), .gpus = request.gpus};
  waiter.asked_at = now;
  waiter.deadline = std::min(request.deadline, now + milliseconds(bounds::wait_ms_max));
  waiter.hold = request.hold_hint;
  waiter.revocable = request.revocability >= gpu::Revocability::kOffload;
  return waiter;
}

}  // namespace

Eviction Engine::eviction_of(LeaseId id, Instant now) {
  const gpu::Segment* segment = segments_.find(id);
  if (segment != nullptr) {
    if (segment->state == gpu::SegmentState::kIdle) return Eviction::kDropped;
    if (is_asked_back(*segment)) return Eviction::kUnderWay;
    return may_ask_readers(*segment, nullptr, now) ? Eviction::kAsked : Eviction::kInUse;
  }
  const auto found = entries_.find(id);
  if (found != entries_.end() && found->second.segment) return Eviction::kInUse;
  if (found == entries_.end() || found->second.is_waiting()) return Eviction::kUnknown;
  const Entry& entry = found->second;
  if (entry.ladder || entry.unseen > 0) return Eviction::kUnderWay;
  if (entry.lease.request.revocability == gpu::Revocability::kNever) return Eviction::kNotAgreed;
  return may_ask(entry, now) ? Eviction::kAsked : Eviction::kRefused;
}

void Engine::take(const EvictionOrdered& event, Instant now, Actions& out) {
  const Eviction eviction = eviction_of(event.id, now);
  if (eviction == Eviction::kDropped) evict(event.id, {}, segments_.find(event.id)->key.gpu, now, out);
  if (eviction != Eviction::kAsked) return;
  if (gpu::Segment* segment = segments_.find(event.id)) {
    segment->is_unwanted = true;
    return ask_readers(*segment, {}, now, out);
  }
  evict(event.id, {}, static_cast<GpuIndex>(std::countr_zero(entries_.at(event.id).lease.on)), now, out);
}

void Engine::take(const DrainOrdered& event, Instant, Actions&) {
  if (event.gpu < gpus_.size()) gpus_[event.gpu].is_drained = event.is_drained;
}

std::vector<CardPlan> Engine::plan(const gpu::Request& request, Instant now, LeaseId waiting) {
  const Waiter* known = queue_.find(waiting);
  const Waiter waiter = known != nullptr ? *known : as_waiter(request, now);
  std::vector<CardPlan> plans;
  for (GpuIndex gpu = 0; gpu < gpus_.size(); ++gpu) {
    if ((waiter.gpus & mask_of(gpu)) != 0) plans.push_back(plan_on(waiter, gpu, now));
  }
  std::fill(shadows_.begin(), shadows_.end(), std::nullopt);
  return plans;
}

CardPlan Engine::plan_on(const Waiter& waiter, GpuIndex gpu, Instant now) {
  CardPlan plan{.gpu = gpu};
  const gpu::Ledger& ledger = gpus_[gpu].ledger;
  if (waiter.least > ledger.largest()) return plan.why = Reason::kNeverFits, plan;
  plan.why = is_reconciled(now) ? closed(waiter, gpu) : Reason::kNotReconciled;
  if (plan.why != Reason::kNone) return plan;
  // What is free is for him who reserved it, before anybody who asks now.
  const gpu::Reservation* reservation = queue_.reserved(gpu);
  if (reservation != nullptr && reservation->id == waiter.id) reservation = nullptr;
  const Units held_back = reservation == nullptr ? 0 : queue_.find(reservation->id)->least;
  plan.free = std::max<Units>(ledger.grantable() - held_back, 0);
  plan.fits_now = plan.free >= waiter.least;
  if (plan.fits_now) return plan.at = now, plan;
  if (reservation != nullptr) return plan.why = Reason::kReserved, plan;
  plan.why = Reason::kNoVictims;
  const auto victims = victims_for(waiter, gpu, plan.why, now);
  if (victims) {
    plan.asked = victims->ids;
    plan.why = Reason::kYielding;
    const bool is_at_once = !plan.asked.empty() && std::all_of(plan.asked.begin(), plan.asked.end(), [&](LeaseId id) {
      const gpu::Segment* segment = segments_.find(id);
      return segment != nullptr && segment->state == gpu::SegmentState::kIdle;
    });
    plan.at = now + milliseconds(is_at_once ? 0 : bounds::ack_ms + bounds::grace_ms);
    return plan;
  }
  std::fill(shadows_.begin(), shadows_.end(), std::nullopt);
  plan.at = shadow(waiter, gpu, now).at;
  if (plan.at == now) plan.at = kNever;  // holds of unknown length may end at once, and may not
  return plan;
}

}  // namespace mesh::arbiter
