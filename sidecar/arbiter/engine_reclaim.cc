// Who is asked to yield, for whom, and what becomes of it.
#include <algorithm>
#include <bit>

#include "common/base/check.h"
#include "sidecar/arbiter/engine.h"

namespace mesh::arbiter {

using gpu::LeaseKind;
using gpu::LeaseState;
using gpu::mask_of;
using gpu::Revocability;
using gpu::Rung;
using gpu::Waiter;
namespace bounds = gpu::bounds;

void Engine::take(const YieldAcknowledged& event, Instant now, Actions& out) {
  Entry* entry = find(event.name, out);
  if (entry == nullptr || !entry->ladder) return;
  entry->ladder->acknowledged(event.eta, now);
  if (entry->lease.state == LeaseState::kYieldAsked) entry->lease.become(LeaseState::kDraining);
}

void Engine::take(const YieldDone& event, Instant now, Actions& out) {
  Entry* entry = find(event.name, out);
  if (entry == nullptr) return;
  gpu::Lease& lease = entry->lease;
  if (event.units == 0 && entry->ladder) return climb(*entry, entry->ladder->refused(now), now, out);
  if (const gpu::Segment* segment = segments_.find(entry->segment)) {
    return event.units < segment->units ? unknown(event.name, out) : finish(lease.id, now, out);
  }
  const bool is_backed = lease.request.kind == LeaseKind::kBacked;
  const bool is_its_own =
      !is_backed || (entry->extents.contains(event.extents) && event.extents.units() == event.units);
  if (event.units <= 0 || event.units > lease.units || !is_its_own) return unknown(event.name, out);
  const bool is_all = event.units == lease.units;
  if (entry->ladder) entry->ladder->done(is_known_free(*entry));
  if (entry->ladder && is_all && entry->ladder->how() == gpu::YieldHow::kOffload) {
    tickets_.put({lease.id, lease.process, lease.units, lease.asked_at, now + milliseconds(bounds::ticket_ms)});
  }
  const bool is_leaving = lease.state == LeaseState::kYieldAsked || (is_all && lease.state != LeaseState::kDraining);
  if (is_leaving) lease.become(LeaseState::kDraining);
  give_up(*entry, event.units, event.extents, now, out);
}

// For those who reserved, and for the first of each priority. True if memory is free at once.
bool Engine::reclaim(Instant now, Actions& out) {
  if (queue_.size() == 0 || !is_reconciled(now)) return false;
  std::vector<Waiter> who;
  for (const gpu::Reservation& reservation : queue_.reservations()) who.push_back(*queue_.find(reservation.id));
  std::array<bool, gpu::kPriorities> has_first{};
  for (const Waiter* waiter : queue_.order(shares_)) {
    if (!needs_memory(*waiter) || std::exchange(has_first[static_cast<size_t>(waiter->priority)], true)) continue;
    if (queue_.reservation_of(waiter->id) == nullptr) who.push_back(*waiter);
  }
  bool is_free = false;
  for (const Waiter& waiter : who) is_free = reclaim_for(waiter, now, out) || is_free;
  return is_free;
}

bool Engine::reclaim_for(const Waiter& waiter, Instant now, Actions& out) {
  struct Offer {
    GpuIndex gpu;
    gpu::Victims victims;
  };
  const gpu::Reservation* own = queue_.reservation_of(waiter.id);
  std::vector<Offer> offers;
  Reason why = Reason::kNoVictims;
  for_each_gpu(own != nullptr ? own->on : waiter.gpus & ~queue_.reserved_gpus(), [&](GpuIndex gpu) {
    if (const Reason reason = closed(waiter, gpu); reason != Reason::kNone) {
      why = reason;
    } else if (auto victims = victims_for(waiter, gpu, why, now)) {
      offers.push_back({gpu, std::move(*victims)});
    }
  });
  if (offers.size() < waiter.gpu_count) {
    explain(waiter.id, why, 0, waiter.least, out);
    return false;
  }
  std::stable_sort(offers.begin(), offers.end(),
                   [](const Offer& a, const Offer& b) { return a.victims.cost < b.victims.cost; });
  offers.resize(waiter.gpu_count);
  GpuMask on = 0;
  for (const Offer& offer : offers) on |= mask_of(offer.gpu);
  // What they give up is for this one.
  if (own == nullptr) queue_.reserve(waiter.id, on, now);
  explain(waiter.id, Reason::kYielding, offers[0].gpu, waiter.least, out);
  bool is_free = false;
  for (const Offer& offer : offers) {
    for (const LeaseId id : offer.victims.ids) is_free = evict(id, waiter.id, offer.gpu, now, out) || is_free;
  }
  return is_free;
}

// Nothing if there are not enough who could be asked; none if enough is free, or being given up, already.
std::optional<gpu::Victims> Engine::victims_for(const Waiter& waiter, GpuIndex gpu, Reason& why, Instant now) {
  GpuState& state = gpus_[gpu];
  const Units free = state.ledger.capacity() - state.ledger.leased();
  const Units need = waiter.least - free - yielding(gpu, waiter.id, now);
  if (need <= 0) return gpu::Victims{};
  if (is_patient(waiter, now) && !state.swaps.allows(need, now)) {
    why = Reason::kSwapBudget;
    return std::nullopt;
  }
  // Floors keep small ones hot; they do not keep a large one out for ever.
  gpu::ClassUnits evictable = held_by_class(gpu);
  for (size_t i = 0; i < gpu::kSizeClasses && waiter.aged_at() > now; ++i) {
    evictable[i] = state.floors.evictable(static_cast<gpu::SizeClass>(i), evictable[i], gpu::class_of(waiter.least));
  }
  return gpu::choose_victims(need, candidates(gpu, &waiter, now), evictable);
}

// Whether it may be left to wait so that less is swapped.
bool Engine::is_patient(const Waiter& waiter, Instant now) const {
  const auto entry = entries_.find(waiter.id);  // a plan's has none
  const Duration load_time = entry != entries_.end() ? entry->second.lease.request.load_time : Duration{};
  const auto patience = std::chrono::duration_cast<Duration>(bounds::swap_patience_loads * load_time);
  const bool is_worth_it = load_time == Duration{} || now - waiter.asked_at < patience;
  return is_worth_it && waiter.aged_at() > now;
}

// Without a waiter: all who can be asked for anything.
std::vector<gpu::Candidate> Engine::candidates(GpuIndex gpu, const Waiter* waiter, Instant now) const {
  const gpu::Worth& worth = gpus_[gpu].worth;
  std::vector<gpu::Candidate> found;
  for (const auto& [id, entry] : entries_) {
    const gpu::Lease& lease = entry.lease;
    if ((lease.on & mask_of(gpu)) == 0 || !may_ask(entry, now)) continue;
    if (waiter != nullptr && !may_take(entry, *waiter, now)) continue;
    const Units units = lease.yieldable();
    const bool in_use = lease.in_use || !entry.lease.is_committed;
    found.push_back({id, units, gpu::class_of(lease.units), worth.cost(lease.score, units), in_use});
  }
  segments_.for_each([&](const gpu::Segment& segment) {
    const bool is_idle = segment.state == gpu::SegmentState::kIdle;
    if (segment.key.gpu != gpu || (!is_idle && !may_ask_readers(segment, waiter, now))) return;
    const bool in_use = std::any_of(segment.users.begin(), segment.users.end(),
                                    [this](LeaseId id) { return entries_.at(id).lease.in_use; });
    const double cost = worth.cost(segment.score, segment.units);
    found.push_back({segment.id, segment.units, gpu::class_of(segment.units), cost, in_use});
  });
  return found;
}

bool Engine::may_ask(const Entry& entry, Instant now) const { return entry.is_handed && will_yield(entry, now); }

// Whether it can be asked, or can be as soon as it was told what it has.
bool Engine::will_yield(const Entry& entry, Instant now) {
  return !entry.ladder && entry.unseen == 0 && entry.lease.connection != 0 && entry.refused_until <= now &&
         entry.lease.yieldable() > 0;
}

// Whether its memory may be asked for on behalf of that waiter.
bool Engine::may_take(const Entry& entry, const Waiter& waiter, Instant now) const {
  return will_yield(entry, now) && is_due(entry, waiter, now);
}

// Whether it is that waiter's turn to have it, if it can be asked for.
bool Engine::is_due(const Entry& entry, const Waiter& waiter, Instant now) const {
  const gpu::Lease& lease = entry.lease;
  const auto asks = entries_.find(waiter.id);  // none: somebody who might ask
  if (asks != entries_.end() && lease.used_by == asks->second.lease.used_by) return false;
  const bool is_aged = waiter.aged_at() <= now;
  if (!lease.in_use && entry.lease.is_committed) {
    return is_aged || lease.granted_at + ghosts_.residency(lease.request.model, lease.request.load_time, now) <= now;
  }
  // Weights are shares, not ranks: who had more for his weight does not take what is in use.
  const bool had_more = shares_.pass(waiter.priority) > shares_.pass(lease.request.priority);
  if (waiter.priority < lease.request.priority && !had_more) return true;
  if (!is_aged) return false;
  // It had its time, or was let in on the condition that it steps back.
  const Duration quantum = std::max<Duration>(milliseconds(bounds::quantum_ms), 3 * lease.request.load_time);
  const gpu::Reservation* own = queue_.reservation_of(waiter.id);
  return lease.granted_at + quantum <= now || (own != nullptr && lease.granted_at >= own->since);
}

gpu::ClassUnits Engine::held_by_class(GpuIndex gpu) const {
  gpu::ClassUnits held{};
  for (const auto& [id, entry] : entries_) {
    if ((entry.lease.on & mask_of(gpu)) == 0) continue;
    held[static_cast<size_t>(gpu::class_of(entry.lease.units))] += entry.lease.units;
  }
  segments_.for_each([&](const gpu::Segment& segment) {
    if (segment.key.gpu == gpu) held[static_cast<size_t>(gpu::class_of(segment.units))] += segment.units;
  });
  return held;
}

// What was promised of that card and is not back yet, as far as that waiter can count on it.
Units Engine::yielding(GpuIndex gpu, LeaseId waiter, Instant now) const {
  Units sum = 0;
  const auto asks = entries_.find(waiter);
  for (const auto& [id, entry] : entries_) {
    if ((entry.lease.on & mask_of(gpu)) == 0) continue;
    const bool is_his = asks != entries_.end() && is_left_of(asks->second, entry, gpu);
    if (is_his || !is_overdue(entry, now)) sum += entry.unseen;
    if (entry.ladder && !entry.ladder->is_to_be_seen()) sum += std::min(entry.ladder->units(), entry.lease.units);
  }
  segments_.for_each([&](const gpu::Segment& segment) {
    if (segment.key.gpu == gpu && is_asked_back(segment)) sum += segment.units;
  });
  return sum;
}

// Who holds no lease took what was leased, a card is too hot, or a draw on the reserve is to be repaid.
void Engine::relieve(Instant now, Actions& out) {
  for (GpuIndex gpu = 0; gpu < gpus_.size(); ++gpu) {
    const gpu::Ledger& ledger = gpus_[gpu].ledger;
    if (const LeaseId drawn = ledger.overdue_draw(now)) {
      const auto found = entries_.find(drawn);
      if (found != entries_.end() && may_ask(found->second, now)) evict(drawn, {}, gpu, now, out);
    }
    if (gpus_[gpu].thermal.band() == gpu::Band::kCritical) relieve_heat(gpu, now, out);
    if (gpus_[gpu].is_drained) {
      for (const gpu::Candidate& each : candidates(gpu, nullptr, now)) evict(each.id, {}, gpu, now, out);
    }
    const Units need = ledger.excess() - ledger.drawn() - yielding(gpu, {}, now);
    if (need <= 0) continue;
    const auto all = candidates(gpu, nullptr, now);
    if (const auto victims = gpu::choose_victims(need, all, held_by_class(gpu))) {
      for (const LeaseId id : victims->ids) evict(id, {}, gpu, now, out);
    } else {
      for (const gpu::Candidate& each : all) evict(each.id, {}, gpu, now, out);
    }
  }
}

void Engine::relieve_heat(GpuIndex gpu, Instant now, Actions& out) {
  for (auto& [id, entry] : entries_) {
    const bool is_batch = entry.lease.request.priority == Priority::kBatch && entry.lease.in_use;
    if (is_batch && (entry.lease.on & mask_of(gpu)) != 0 && may_ask(entry, now)) evict(id, {}, gpu, now, out);
  }
}

// True if its memory is free at once.
bool Engine::evict(LeaseId id, LeaseId beneficiary, GpuIndex gpu, Instant now, Actions& out) {
  GpuState& state = gpus_[gpu];
  // The key of a segment may be a lease's id, too, whose memory the segment's is.
  if (gpu::Segment* segment = segments_.find(id); segment != nullptr) {
    const bool is_idle = segment->state == gpu::SegmentState::kIdle;
    if (is_idle) {
      evict_segment(*segment, now, out);
    } else if (may_ask_readers(*segment, nullptr, now)) {
      ask_readers(*segment, beneficiary, now, out);
    }
    return is_idle;
  }
  Entry& entry = entries_.at(id);
  if (!may_ask(entry, now)) return false;  // asked for another card of its already
  const Units units = entry.lease.yieldable();
  state.worth.evicted(entry.lease.score);
  state.swaps.spend(units, now);
  const gpu::Request& request = entry.lease.request;
  ghosts_.evicted(request.model, now, units, request.load_time, request.revocability == Revocability::kOffload);
  ask_yield(entry, request.revocability, units, beneficiary, now, out);
  return false;
}

void Engine::ask_yield(Entry& entry, Revocability agreed, Units units, LeaseId beneficiary, Instant now, Actions& out) {
  gpu::Lease& lease = entry.lease;
  entry.ladder.emplace(agreed, units, now);
  entry.beneficiary = beneficiary;
  if (lease.state == LeaseState::kActive || lease.state == LeaseState::kReserved) {
    lease.become(LeaseState::kYieldAsked);
  }
  climb(entry, Rung::kAsk, now, out);
}

void Engine::climb(Entry& entry, Rung rung, Instant now, Actions& out) {
  gpu::Lease& lease = entry.lease;
  switch (rung) {
    case Rung::kWait:
      return;
    case Rung::kAsk:
      if (lease.state == LeaseState::kDraining) lease.become(LeaseState::kYieldAsked);
      out.push_back(AskYield{lease.connection, lease.id, entry.ladder->how(), entry.ladder->units(),
                             milliseconds(bounds::grace_ms)});
      return;
    case Rung::kTerminate:
    case Rung::kKill:
      out.push_back(SignalProcess{lease.used_by, rung == Rung::kKill});
      return;
    case Rung::kGiveUp:
      out.push_back(RecordDecision{lease.id, lease.process, Reason::kDidNotYield, 0, entry.ladder->units()});
      entry.refused_until = now + milliseconds(bounds::refusal_ms);
      leave_to_others(entry, now);
      end_ladder(entry);
      return;
  }
}

// For whom it was asked looks elsewhere; if he did not wait too long yet he gives others their turn.
void Engine::leave_to_others(Entry& entry, Instant now) {
  if (const Waiter* waiter = queue_.find(entry.beneficiary); waiter != nullptr && waiter->aged_at() > now) {
    queue_.unreserve(waiter->id);
  }
  entry.ladder.reset();
  entry.beneficiary = {};
}

void Engine::end_ladder(Entry& entry) {
  entry.ladder.reset();
  entry.beneficiary = {};
  const LeaseState state = entry.lease.state;
  if (state != LeaseState::kYieldAsked && state != LeaseState::kDraining) return;
  entry.lease.become(entry.lease.is_committed ? LeaseState::kActive : LeaseState::kReserved);
}

}  // namespace mesh::arbiter
