// What is held, and how it comes back.
#include <algorithm>
#include <bit>

#include "common/base/check.h"
#include "sidecar/arbiter/engine.h"

namespace mesh::arbiter {

using gpu::LeaseKind;
using gpu::LeaseState;
using gpu::SegmentState;

// Chunks of ours came back as descriptors; of what an agent allocated by itself only a sample tells.
bool Engine::is_known_free(const Entry& entry) const {
  return entry.lease.request.kind != LeaseKind::kAccounted || !config_.sees_processes;
}

// A lease is that much smaller; its memory is somebody else's when it is known to be free. False, and nothing is done,
// if these are not its chunks. With its last unit the entry may be gone.
bool Engine::give_up(Entry& entry, Units units, const Extents& extents, Instant now, Actions& out) {
  gpu::Lease& lease = entry.lease;
  MESH_CHECK(units > 0 && units <= lease.units);
  const bool is_backed = lease.request.kind == LeaseKind::kBacked;
  if (is_backed && (extents.units() != units || !entry.extents.contains(extents))) return false;
  lease.units -= units;
  if (is_known_free(entry)) {
    come_back(entry, units, extents, now, out);
    return true;
  }
  entry.unseen += units;
  entry.unseen_since = now;
  entry.seen_on = 0;
  write(entry, out);  // its holder does not know it any more, and will not show it to the next arbiter
  for_each_gpu(lease.on, [&](GpuIndex gpu) { out.push_back(SampleGpu{gpu}); });
  return true;
}

// Nobody is left who could say that it is free.
void Engine::lose(Entry& entry, Instant now, Actions& out) {
  if (is_known_free(entry) || entry.lease.units == 0) return;
  entry.is_lost = true;
  give_up(entry, entry.lease.units, {}, now, out);
}

// It is nobody's now. With the last unit the entry is gone.
void Engine::come_back(Entry& entry, Units units, const Extents& extents, Instant now, Actions& out) {
  const gpu::Lease& lease = entry.lease;
  for_each_gpu(lease.on, [&](GpuIndex gpu) {
    gpus_[gpu].ledger.give_back(lease.id, units);
    if (lease.request.kind != LeaseKind::kBacked) return;
    gpus_[gpu].pool.put(extents);
    out.push_back(ReturnChunks{lease.id, gpu, extents});
  });
  if (lease.request.kind == LeaseKind::kBacked) entry.extents -= extents;
  if (!entry.is_held()) return finish(lease.id, now, out);
  shares_.resize(lease.id, (lease.units + entry.unseen) * std::popcount(lease.on), now);
  if (entry.ladder && entry.unseen == 0) end_ladder(entry);
  write(entry, out);
}

// All of it is nobody's any more.
void Engine::finish(LeaseId id, Instant now, Actions& out) {
  Entry& entry = entries_.at(id);
  gpu::Lease& lease = entry.lease;
  if (entry.is_waiting()) queue_.remove(id);
  begin(entry, out);
  if (entry.segment) {
    leave_segment(entry, true, now, out);
  } else if (entry.is_held()) {
    for_each_gpu(lease.on, [&](GpuIndex gpu) {
      gpus_[gpu].ledger.drop(id);
      if (lease.request.kind != LeaseKind::kBacked) return;
      gpus_[gpu].pool.put(entry.extents);
      out.push_back(ReturnChunks{id, gpu, entry.extents});
    });
  }
  shares_.end(id, now);
  if (lease.on != 0) out.push_back(AppendJournal{JournalEntry{.kind = JournalEntry::Kind::kGone, .id = id}});
  lease.become(LeaseState::kReleased);
  entries_.erase(id);
}

// A socket of a user was closed, or he is known to map it no more (`is_gone`).
void Engine::leave_segment(Entry& entry, bool is_gone, Instant now, Actions& out) {
  gpu::Segment* segment = segments_.find(entry.segment);
  MESH_CHECK(segment != nullptr);
  const bool is_writer = segment->writer == entry.lease.id;
  const gpu::Worth& worth = gpus_[segment->key.gpu].worth;
  if (!is_gone) {
    if (is_writer) segments_.leave(*segment, entry.lease.id, worth, now);
    return;
  }
  if (!is_writer) {
    segments_.leave(*segment, entry.lease.id, worth, now);
    if (segment->state == SegmentState::kIdle && is_still_wanted(*segment, entry.beneficiary)) {
      return evict_segment(*segment, now, out);
    }
    while (const gpu::Segment* surplus = segments_.surplus(segment->key.gpu)) {
      gpus_[surplus->key.gpu].worth.evicted(surplus->score);
      const bool is_own = surplus == segment;
      drop_segment(*surplus, out);
      if (is_own) break;
    }
    return;
  }
  if (const auto next = segments_.promote(*segment, now)) {
    hand_over(entries_.at(*next), out);
    write(*segment, out);
  } else {
    drop_segment(*segment, out);
  }
}

void Engine::drop_segment(const gpu::Segment& segment, Actions& out) {
  const LeaseId id = segment.id;
  GpuState& state = gpus_[segment.key.gpu];
  const Extents extents = gpu::extents_of(segment.units);
  state.ledger.drop(id);
  state.pool.put(extents);
  out.push_back(ReturnChunks{id, segment.key.gpu, extents});
  out.push_back(AppendJournal{JournalEntry{.kind = JournalEntry::Kind::kGone, .id = id, .key = segment.key}});
  segments_.erase(id);
}

// Free chunks give way to whoever allocates by himself, and to those who hold no lease.
void Engine::trim_pools(Actions& out) {
  for (GpuIndex gpu = 0; gpu < gpus_.size(); ++gpu) {
    GpuState& state = gpus_[gpu];
    const Units pooled = state.pool.free().units();
    const Units beyond = state.is_drained ? pooled : state.ledger.leased() + pooled - state.ledger.capacity();
    if (beyond <= 0 || state.pool.free().total() == 0) continue;
    out.push_back(ReleaseChunks{gpu, state.pool.trim(beyond)});
  }
}

void Engine::write(const Entry& entry, Actions& out) {
  const gpu::Lease& lease = entry.lease;
  JournalEntry line{.kind = JournalEntry::Kind::kLease, .epoch = lease.epoch, .id = lease.id, .process = lease.process};
  line.request = lease.request;
  line.on = lease.on;
  line.units = entry.segment ? 0 : lease.units + entry.unseen;
  line.unseen = entry.unseen;
  line.is_lost = entry.is_lost;
  line.used_by = lease.used_by;
  line.extents = entry.extents;
  line.is_committed = entry.lease.is_committed;
  line.is_handed = entry.is_handed;
  line.segment = entry.segment;
  out.push_back(AppendJournal{line});
}

void Engine::write(const gpu::Segment& segment, Actions& out) {
  JournalEntry line{.kind = JournalEntry::Kind::kSegment, .id = segment.id};
  line.units = segment.units;
  line.key = segment.key;
  line.writer = segment.writer;
  line.load_time = segment.load_time;
  out.push_back(AppendJournal{line});
}

void Engine::take(const ChunksCreated& event, Instant now, Actions& out) {
  const auto found = entries_.find(event.id);
  if (found == entries_.end() || found->second.chunks_pending == 0) return;
  Entry& entry = found->second;
  --entry.chunks_pending;
  if (event.missing.total() > 0) entry.failed_chunks[event.gpu] = event.missing;
  if (entry.chunks_pending > 0) return;
  if (entry.failed_chunks.empty() && !entry.is_ended) return hand_over(entry, out);
  // What there is of them is free again; what is missing is not.
  const auto failed = std::move(entry.failed_chunks);
  if (!failed.empty()) {
    if (entry.segment) fail_segment(entry, now, out);
    out.push_back(SendRefusal{entry.lease.connection, event.id, Code::kOverloaded, Reason::kChunksFailed, 0});
  }
  finish(event.id, now, out);
  for (const auto& [gpu, missing] : failed) gpus_[gpu].pool.lose(missing);
}

// Who waits for it waits for nothing.
void Engine::fail_segment(const Entry& entry, Instant now, Actions& out) {
  const std::vector<LeaseId> waiting = segments_.find(entry.segment)->waiting;
  for (const LeaseId id : waiting) {
    out.push_back(SendRefusal{entries_.at(id).lease.connection, id, Code::kOverloaded, Reason::kChunksFailed, 0});
    finish(id, now, out);
  }
}

void Engine::take(const SegmentWritten& event, Instant now, Actions& out) {
  Entry* entry = find(event.name, out);
  if (entry == nullptr) return;
  gpu::Segment* segment = segments_.find(entry->segment);
  std::vector<LeaseId> ready;
  const bool is_sealed =
      segment != nullptr && segments_.seal(*segment, event.name.id, gpus_[segment->key.gpu].worth, now, ready);
  if (!is_sealed) return unknown(event.name, out);
  entry->lease.is_committed = true;
  if (entry->lease.state == LeaseState::kReserved) entry->lease.become(LeaseState::kActive);
  write(*segment, out);
  write(*entry, out);
  for (const LeaseId id : ready) hand_over(entries_.at(id), out);
}

}  // namespace mesh::arbiter
