// After a restart: holders keep what they have, and nothing is granted before it is known who they are.
#include <algorithm>
#include <bit>
#include <set>

#include "common/base/check.h"
#include "sidecar/arbiter/engine.h"

namespace mesh::arbiter {

using gpu::LeaseKind;
using gpu::LeaseState;
namespace bounds = gpu::bounds;

void Engine::begin(std::span<const JournalEntry> journal, Instant now, Actions& out) {
  std::map<LeaseId, const JournalEntry*> leases;
  std::map<LeaseId, const JournalEntry*> segments;
  for (const JournalEntry& entry : journal) {
    switch (entry.kind) {
      case JournalEntry::Kind::kEpoch:
        epoch_ = std::max(epoch_, entry.epoch + 1);
        break;
      case JournalEntry::Kind::kLease:
        leases[entry.id] = &entry;
        break;
      case JournalEntry::Kind::kSegment:
        segments[entry.id] = &entry;
        break;
      case JournalEntry::Kind::kGone:
        (entry.key.content ? segments : leases).erase(entry.id);
        break;
    }
  }
  out.push_back(AppendJournal{JournalEntry{.kind = JournalEntry::Kind::kEpoch, .epoch = epoch_}});
  settled_at_ = now;
  reconcile_until_ = now;
  for (const auto& [id, entry] : segments) adopt_segment(*entry);
  for (const auto& [id, entry] : leases) adopt(*entry, now, out);
  // One whose writer nobody was told of: there is nothing in it.
  for (const auto& [id, entry] : segments) {
    gpu::Segment* segment = segments_.find(id);
    if (segment->state == gpu::SegmentState::kLoading && !entries_.contains(segment->writer))
      drop_segment(*segment, out);
  }
  std::set<ProcessId> processes;
  for (const auto& [id, entry] : entries_) processes.insert({entry.lease.process, entry.lease.used_by});
  for (const ProcessId process : processes) out.push_back(WatchProcess{process});
  if (!entries_.empty()) reconcile_until_ = now + milliseconds(bounds::reconcile_ms);
}

void Engine::adopt_segment(const JournalEntry& entry) {
  gpu::Segment* segment = segments_.adopt(entry.key, entry.id, entry.units, entry.load_time);
  MESH_CHECK(segment != nullptr);
  gpus_[entry.key.gpu].ledger.adopt(entry.id, entry.units);
  if (!entry.writer) return;
  segment->state = gpu::SegmentState::kLoading;
  segment->writer = entry.writer;
}

void Engine::adopt(const JournalEntry& journal, Instant now, Actions& out) {
  // Nobody was told of it, so nobody has any of it; or it was about to be gone.
  if (!journal.is_handed || (journal.segment && segments_.find(journal.segment) == nullptr)) {
    out.push_back(AppendJournal{JournalEntry{.kind = JournalEntry::Kind::kGone, .id = journal.id}});
    return;
  }
  Entry& entry = entries_[journal.id];
  gpu::Lease& lease = entry.lease;
  lease.id = journal.id;
  lease.epoch = journal.epoch;
  lease.process = journal.process;
  lease.used_by = journal.used_by != 0 ? journal.used_by : journal.process;
  lease.request = journal.request;
  // Its times were of a clock that may have begun anew.
  lease.request.deadline = kNever;
  lease.on = journal.on;
  lease.units = journal.units - journal.unseen;
  lease.asked_at = lease.granted_at = now;
  entry.unseen = journal.unseen;
  entry.unseen_since = now;
  entry.is_lost = journal.is_lost;
  // Nobody comes for what was given up.
  lease.state = entry.unseen > 0 && lease.units == 0 ? LeaseState::kDying : LeaseState::kOrphaned;
  entry.extents = journal.extents;
  entry.segment = journal.segment;
  lease.is_committed = journal.is_committed;
  entry.is_handed = true;
  if (entry.segment) {
    gpu::Segment* segment = segments_.find(entry.segment);
    const gpu::Worth& worth = gpus_[segment->key.gpu].worth;
    if (segment->writer != lease.id) {
      segments_.join(*segment, lease.id, gpu::weight_of(lease.request.priority), worth);
    }
  } else {
    for_each_gpu(lease.on, [&](GpuIndex gpu) { gpus_[gpu].ledger.adopt(lease.id, journal.units); });
  }
  const Units held = journal.units * std::popcount(lease.on);
  if (held > 0) shares_.begin(lease.id, lease.request.priority, held, milliseconds(bounds::hold_hint_ms), now);
}

// With the epoch it knows: an arbiter may have agreed to a claim and been killed before the agent heard of it.
void Engine::take(const LeasePresented& event, Instant now, Actions& out) {
  const LeaseName& name = event.name;
  const auto found = entries_.find(name.id);
  const bool is_its_own = found != entries_.end() && found->second.lease.state == LeaseState::kOrphaned &&
                          found->second.lease.process == name.process && name.epoch <= found->second.lease.epoch;
  if (!is_its_own) return unknown(name, out);
  Entry& entry = found->second;
  gpu::Lease& lease = entry.lease;
  const bool is_backed = lease.request.kind == LeaseKind::kBacked;
  const Units units = entry.segment ? 0 : event.units;
  const bool is_possible = units >= (entry.segment ? 0 : 1) && units <= lease.units;
  if (!is_possible || (is_backed && !(entry.extents.contains(event.extents) && event.extents.units() == units))) {
    return unknown(name, out);
  }
  lease.connection = name.connection;
  lease.epoch = epoch_;
  lease.renew(now);
  lease.become(lease.is_committed ? LeaseState::kActive : LeaseState::kReserved);
  if (units < lease.units) {
    Extents surplus = entry.extents;
    surplus -= is_backed ? event.extents : surplus;
    give_up(entry, lease.units - units, surplus, now, out);
  }
  hand_over(entry, out);
}

bool Engine::is_reconciled(Instant now) const {
  const bool are_sampled =
      std::all_of(gpus_.begin(), gpus_.end(), [](const GpuState& each) { return each.is_sampled; });
  if (!are_sampled || now < reconcile_until_) {
    return are_sampled && std::none_of(entries_.begin(), entries_.end(), [](const auto& each) {
             return each.second.lease.state == LeaseState::kOrphaned;
           });
  }
  return true;
}

// Whoever did not come back in time may live, and hold what he was granted, all the same.
void Engine::give_up_orphans(Instant now, Actions& out) {
  if (now < reconcile_until_) return;
  for (auto& [id, entry] : entries_) {
    if (entry.lease.state != LeaseState::kOrphaned) continue;
    entry.lease.become(LeaseState::kDying);
    if (entry.segment) leave_segment(entry, false, now, out);
    lose(entry, now, out);
  }
}

}  // namespace mesh::arbiter
