#include "sidecar/arbiter/engine.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "common/base/check.h"

namespace mesh::arbiter {

using gpu::LeaseKind;
using gpu::LeaseState;
namespace bounds = gpu::bounds;

namespace {

std::vector<GpuState> states_of(const ArbiterConfig& config) {
  MESH_CHECK(config.gpus.size() <= bounds::gpus_max);
  MESH_CHECK(std::is_sorted(config.gpus.begin(), config.gpus.end(),
                            [](const GpuConfig& a, const GpuConfig& b) { return a.uuid < b.uuid; }));
  return {config.gpus.begin(), config.gpus.end()};
}

Units total_of(const ArbiterConfig& config) {
  Units sum = 0;
  for (const GpuConfig& each : config.gpus) sum += each.card.total;
  return sum;
}

// With the number of GPUs a mask may have no more bits than there are.
GpuMask existing(size_t gpus) { return gpus == 32 ? gpu::kAnyGpu : gpu::mask_of(gpus) - 1; }

}  // namespace

std::string_view to_string(Reason reason) {
  constexpr std::string_view kNames[] = {
      "none",        "invalid",       "never_fits",     "too_many",      "deadline", "policed",
      "other_epoch", "chunks_failed", "not_reconciled", "pressure",      "heat",     "reserved",
      "yielding",    "swap_budget",   "no_victims",     "did_not_yield", "drained",  "process_ended"};
  return kNames[static_cast<size_t>(reason)];
}

Engine::Engine(ArbiterConfig config)
    : config_(std::move(config)), gpus_(states_of(config_)), shares_(total_of(config_)), shadows_(gpus_.size()) {}

void Engine::take(const LeaseAsked& event, Instant now, Actions& out) {
  MESH_CHECK(event.id && event.process != 0 && !entries_.contains(event.id) && segments_.find(event.id) == nullptr);
  ghosts_.requested(event.request.model, now);
  Units could = 0;
  if (const Reason reason = refusal(event, could, now); reason != Reason::kNone) {
    const bool is_wrong = reason == Reason::kInvalid || reason == Reason::kNeverFits;
    const Code code = is_wrong ? Code::kInvalid : reason == Reason::kDeadline ? Code::kDeadline : Code::kOverloaded;
    out.push_back(SendRefusal{event.connection, event.id, code, reason, could});
    return;
  }
  Entry& entry = entries_[event.id];
  gpu::Lease& lease = entry.lease;
  lease.id = event.id;
  lease.process = event.process;
  lease.used_by = event.used_by != 0 ? event.used_by : event.process;
  lease.connection = event.connection;
  lease.request = event.request;
  lease.request.gpus &= existing(gpus_.size());
  lease.asked_at = now;
  entry.layout = event.layout;
  if (const auto ticket = tickets_.take(event.request.ticket, event.process, now)) lease.asked_at = ticket->asked_at;
  gpu::Waiter waiter{.id = event.id, .priority = event.request.priority};
  waiter.least = event.request.least();
  waiter.ask = event.request.ask();
  // Where it can never fit it does not wait.
  for_each_gpu(lease.request.gpus, [&](GpuIndex gpu) {
    if (gpus_[gpu].ledger.largest() >= waiter.least) waiter.gpus |= gpu::mask_of(gpu);
  });
  waiter.gpu_count = event.request.gpu_count;
  waiter.asked_at = lease.asked_at;
  // A ticket makes nobody's time run out that began to wait now.
  waiter.deadline = std::min(event.request.deadline, now + milliseconds(bounds::wait_ms_max));
  // Weights stay as long as anybody uses them, whoever asked for them first.
  if (event.request.kind != LeaseKind::kShared) {
    waiter.hold = event.request.hold_hint;
    waiter.revocable = event.request.revocability >= gpu::Revocability::kOffload;
  }
  waiter.model = event.request.model;
  MESH_CHECK(queue_.push(waiter, shares_));
}

Reason Engine::refusal(const LeaseAsked& event, Units& could, Instant now) const {
  const gpu::Request& request = event.request;
  if (!gpu::check(request)) return Reason::kInvalid;
  could = largest(request);
  if (could < request.least() || could == 0) return Reason::kNeverFits;
  could = 0;
  if (request.deadline <= now) return Reason::kDeadline;
  const auto policed = policed_.find(event.used_by != 0 ? event.used_by : event.process);
  if (policed != policed_.end() && policed->second.is_reported) return Reason::kPoliced;
  const bool is_full = entries_.size() >= bounds::leases_max || queue_.size() >= bounds::waiters_max;
  return is_full ? Reason::kTooMany : Reason::kNone;
}

// Of the cards it allows so many have at least that.
Units Engine::largest(const gpu::Request& request) const {
  std::vector<Units> sizes;
  for_each_gpu(request.gpus & existing(gpus_.size()),
               [&](GpuIndex gpu) { sizes.push_back(gpus_[gpu].ledger.largest()); });
  if (sizes.size() < request.gpu_count) return 0;
  std::sort(sizes.rbegin(), sizes.rend());
  return std::max<Units>(sizes[request.gpu_count - 1], 0);
}

// The lease by the name an agent gave; null, and it is told so, if that is not its own, or of another time.
Entry* Engine::find(const LeaseName& name, Actions& out) {
  const auto found = entries_.find(name.id);
  if (found != entries_.end()) {
    const gpu::Lease& lease = found->second.lease;
    const bool is_own = lease.process == name.process && lease.connection == name.connection;
    if (is_own && lease.epoch == name.epoch && found->second.is_handed) return &found->second;
  }
  unknown(name, out);
  return nullptr;
}

void Engine::unknown(const LeaseName& name, Actions& out) {
  out.push_back(SendError{name.connection, name.id,
                          rule_broken(Code::kInvalid, "lease_unknown", "No such lease is held by this connection")});
}

void Engine::take(const LeaseCommitted& event, Instant now, Actions& out) {
  Entry* entry = find(event.name, out);
  if (entry == nullptr) return;
  gpu::Lease& lease = entry->lease;
  const Units surplus = lease.units - event.actual;
  const bool is_wrong = lease.request.kind == LeaseKind::kBacked && event.surplus.units() != surplus;
  Result<Units> committed = is_wrong ? fail(Code::kInvalid, "lease_extents", "These chunks are not what is left over")
                                     : lease.commit(event.actual);
  if (!committed) {
    out.push_back(SendError{event.name.connection, event.name.id, std::move(committed.error())});
    return;
  }
  // What it took is known now, whatever was not said.
  if (lease.request.load_time == Duration{}) lease.request.load_time = now - lease.granted_at;
  lease.units += surplus;  // until it is given up
  if (surplus > 0) give_up(*entry, surplus, event.surplus, now, out);
  write(*entry, out);
}

void Engine::take(const LeaseRenewed& event, Instant now, Actions& out) {
  if (Entry* entry = find(event.name, out)) entry->lease.renew(now);
}

void Engine::take(const LiveReported& event, Instant now, Actions& out) {
  Entry* entry = find(event.name, out);
  if (entry == nullptr || entry->ladder || now < entry->trim_after) return;
  const gpu::Lease& lease = entry->lease;
  if (lease.state != LeaseState::kActive || !gpu::wants_trim(event.live, lease.units)) return;
  entry->trim_after = now + milliseconds(bounds::trim_pause_ms);
  const Units slack = std::min(lease.units - std::max<Units>(event.live, 0), lease.units);
  out.push_back(AskYield{lease.connection, lease.id, gpu::YieldHow::kTrim, slack, milliseconds(bounds::grace_ms)});
}

void Engine::take(const LeaseReleased& event, Instant now, Actions& out) {
  const auto found = entries_.find(event.name.id);
  if (found == entries_.end() || found->second.lease.process != event.name.process) return unknown(event.name, out);
  Entry& entry = found->second;
  gpu::Lease& lease = entry.lease;
  const bool is_at_its_own = lease.connection == event.name.connection;
  if (!entry.is_handed) {  // it does not want it any more
    if (!is_at_its_own) return unknown(event.name, out);
    if (entry.chunks_pending == 0) return finish(lease.id, now, out);
    entry.is_ended = true;
    if (lease.state != LeaseState::kDying) lease.become(LeaseState::kDying);
    return;
  }
  // A socket that was closed took its leases along, as did an arbiter that was killed; only that they are free can
  // still be said at another.
  const bool is_orphaned = lease.state == LeaseState::kOrphaned;
  const bool is_left = (is_orphaned || lease.state == LeaseState::kDying) && event.name.epoch <= lease.epoch;
  // It may have claimed it at the same time, and not have heard yet what it is called now.
  const bool is_its_own = is_at_its_own && event.name.epoch <= lease.epoch;
  if (!is_left && !is_its_own) return unknown(event.name, out);
  entry.is_released = true;
  if (is_orphaned) lease.become(LeaseState::kDying);
  if (lease.request.kind == LeaseKind::kShared) return finish(lease.id, now, out);
  if (entry.ladder) entry.ladder->done(is_known_free(entry));
  if (lease.state != LeaseState::kDying && lease.state != LeaseState::kDraining) lease.become(LeaseState::kDraining);
  if (lease.units > 0) give_up(entry, lease.units, entry.extents, now, out);
}

// What is held stays held: that a socket was closed says nothing about memory.
void Engine::take(const ConnectionClosed& event, Instant now, Actions& out) {
  std::vector<LeaseId> over;
  for (auto& [id, entry] : entries_) {
    gpu::Lease& lease = entry.lease;
    if (lease.connection != event.connection) continue;
    lease.connection = 0;
    lease.in_use = false;
    entry.begins_by.reset();
    entry.ladder.reset();
    const bool has_nothing = !entry.is_handed;
    if (has_nothing && entry.chunks_pending == 0) {
      over.push_back(id);
      continue;
    }
    entry.is_ended = has_nothing;
    if (lease.state != LeaseState::kDying) lease.become(LeaseState::kDying);
    if (entry.segment) leave_segment(entry, false, now, out);
  }
  for (const LeaseId id : over) finish(id, now, out);
}

void Engine::take(const ProcessEnded& event, Instant now, Actions& out) {
  std::vector<LeaseId> over;
  for (auto& [id, entry] : entries_) {
    const gpu::Lease& lease = entry.lease;
    const bool is_for_it = lease.used_by == event.process;
    if (!is_for_it && lease.process != event.process) continue;
    if (!is_for_it && entry.is_handed) {
      leave_behind(entry, now, out);
      continue;
    }
    if (entry.is_waiting() && lease.process != event.process) {
      out.push_back(SendRefusal{lease.connection, id, Code::kInvalid, Reason::kProcessEnded, 0});
    }
    entry.ladder.reset();
    entry.is_ended = true;
    if (entry.chunks_pending == 0) {
      over.push_back(id);
    } else if (entry.lease.state != LeaseState::kDying) {
      entry.lease.become(LeaseState::kDying);
    }
  }
  for (const LeaseId id : over) finish(id, now, out);
  tickets_.forget(event.process);
  policed_.erase(event.process);
  for (GpuState& each : gpus_) {
    if (each.contexts.erase(event.process) > 0) each.ledger.observe_context(event.process, 0);
  }
}

// Who leased it for another is gone. That one has what it has: it is looked for until it has nothing, or is gone, too.
void Engine::leave_behind(Entry& entry, Instant now, Actions& out) {
  gpu::Lease& lease = entry.lease;
  lease.connection = 0;
  lease.in_use = false;
  entry.ladder.reset();
  if (lease.state != LeaseState::kDying) lease.become(LeaseState::kDying);
  lose(entry, now, out);
}

void Engine::on_time(Instant now, Actions& out) {
  for (GpuState& each : gpus_) each.ledger.advance(now);
  tickets_.advance(now);
  give_up_orphans(now, out);
  std::vector<gpu::Waiter> late;
  queue_.expire(now, late);
  for (const gpu::Waiter& waiter : late) refuse(entries_.at(waiter.id), Code::kDeadline, Reason::kDeadline, out);
  for (auto& [id, entry] : entries_) {
    if (entry.ladder) {
      climb(entry, entry.ladder->on_time(now), now, out);
    } else if (entry.lease.expires_at <= now && entry.is_handed && entry.lease.connection != 0) {
      // Whatever it agreed to when others need it, its time is over: it is asked, and asked again, but not forgotten.
      entry.lease.expires_at = now + milliseconds(bounds::refusal_ms);
      const auto agreed = std::max(entry.lease.request.revocability, gpu::Revocability::kRelease);
      const gpu::Segment* segment = segments_.find(entry.segment);
      ask_yield(entry, agreed, segment != nullptr ? segment->units : entry.lease.units, {}, now, out);
    }
  }
  settle(now, out);
}

void Engine::settle(Instant now, Actions& out) {
  settled_at_ = now;
  trim_pools(out);
  pace(now, out);
  admit(now, out);
  relieve(now, out);
  const bool is_free = reclaim(now, out);
  trim_pools(out);  // what was taken back for others is theirs before anything is granted
  if (!is_free) return;
  admit(now, out);
  trim_pools(out);
}

Instant Engine::next_deadline() const {
  Instant next = queue_.next_deadline(settled_at_);
  if (queue_.size() > 0) next = std::min(next, settled_at_ + milliseconds(bounds::look_again_ms));
  if (settled_at_ < reconcile_until_) next = std::min(next, reconcile_until_);
  for (const auto& [id, entry] : entries_) {
    if (entry.begins_by) next = std::min(next, begins_at(entry));
    if (entry.ladder) {
      next = std::min(next, entry.ladder->deadline());
    } else if (entry.is_handed && entry.lease.connection != 0) {
      next = std::min(next, entry.lease.expires_at);
    }
  }
  return next;
}

bool Engine::holds() const {
  for (GpuIndex gpu = 0; gpu < gpus_.size(); ++gpu) {
    const GpuState& state = gpus_[gpu];
    size_t holders = 0;
    Units held = 0;
    bool agrees = true;
    const auto expect = [&](LeaseId id, Units units) {
      agrees = agrees && state.ledger.held_by(id) == units;
      ++holders;
      held += units;
    };
    for (const auto& [id, entry] : entries_) {
      if ((entry.lease.on & gpu::mask_of(gpu)) != 0 && !entry.segment && entry.is_held()) {
        expect(id, entry.lease.units + entry.unseen);
      }
    }
    segments_.for_each([&](const gpu::Segment& segment) {
      if (segment.key.gpu == gpu) expect(segment.id, segment.units);
    });
    const Units pooled = state.pool.free().units();
    const bool pool_fits = pooled == 0 || held + pooled <= state.ledger.capacity();
    if (!agrees || holders != state.ledger.holders() || !pool_fits || !state.ledger.holds()) return false;
  }
  return true;
}

}  // namespace mesh::arbiter
