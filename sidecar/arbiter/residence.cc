#include "sidecar/arbiter/residence.h"

#include <algorithm>
#include <map>
#include <utility>

namespace mesh::arbiter {
namespace {

using gpu::LeaseState;
using gpu::Residency;

using Known = std::map<std::pair<gpu::ModelKey, GpuIndex>, Residence>;

// One more that has it: the one that is furthest says how soon it can be used.
void note(Known& known, const Residence& one) {
  auto [at, is_new] = known.try_emplace({one.model, one.gpu}, one);
  if (is_new) return;
  Residence& other = at->second;
  const uint32_t refs = other.refs + one.refs;
  const Units units = std::max(other.units, one.units);
  const Duration age = std::max(other.age, one.age);
  if (other.is_loading && (!one.is_loading || one.usable_in < other.usable_in)) other = one;
  other.refs = refs;
  other.units = units;
  other.age = age;
}

void note_leases(Known& known, const Engine& engine, Instant now) {
  for (const auto& [id, entry] : engine.entries()) {
    const gpu::Lease& lease = entry.lease;
    const bool is_going = lease.state == LeaseState::kDying || lease.state == LeaseState::kOrphaned;
    if (!lease.request.model || lease.units == 0 || is_going) continue;
    Residence one{.model = lease.request.model, .at = Residency::kResident, .is_loading = !lease.is_committed};
    one.refs = 1;
    one.units = lease.units;
    one.load_time = lease.request.load_time;
    if (one.is_loading) one.usable_in = left_of(one.load_time, lease.granted_at, now);
    one.age = now - lease.granted_at;
    for_each_gpu(lease.on, [&](GpuIndex gpu) {
      one.gpu = gpu;
      note(known, one);
    });
  }
}

void note_segments(Known& known, const Engine& engine, Instant now) {
  engine.segments().for_each([&](const gpu::Segment& segment) {
    Residence one{.model = segment.key.content, .gpu = segment.key.gpu, .at = Residency::kResident};
    one.is_loading = segment.state == gpu::SegmentState::kLoading || segment.state == gpu::SegmentState::kAbandoned;
    one.refs = static_cast<uint32_t>(segment.users.size() + segment.waiting.size());
    one.units = segment.units;
    one.load_time = segment.load_time;
    if (one.is_loading) one.usable_in = left_of(one.load_time, segment.load_began, now);
    one.age = now - segment.load_began;
    note(known, one);
  });
}

void note_gone(Known& known, const Engine& engine, Instant now) {
  engine.ghosts().for_each([&](const gpu::Ghost& ghost) {
    for (GpuIndex gpu = 0; gpu < engine.gpus().size(); ++gpu) {
      const gpu::Ledger& ledger = engine.gpus()[gpu].ledger;
      if (ledger.largest() < ghost.units || known.contains({ghost.model, gpu})) continue;
      Residence one{
          .model = ghost.model, .gpu = gpu, .at = ghost.is_offloaded ? Residency::kHostCached : Residency::kDisk};
      one.units = ghost.units;
      one.load_time = ghost.load_time;
      const bool has_room = ledger.grantable() >= ghost.units;
      one.usable_in = ghost.load_time + (has_room ? Duration{} : milliseconds(gpu::bounds::grace_ms));
      one.age = now - ghost.went_at;
      known.emplace(std::pair(one.model, gpu), one);
    }
  });
}

}  // namespace

Duration left_of(Duration load_time, Instant began, Instant now) {
  return std::max<Duration>(load_time - (now - began), Duration{});
}

std::vector<Residence> residences(const Engine& engine, Instant now) {
  Known known;
  note_leases(known, engine, now);
  note_segments(known, engine, now);
  note_gone(known, engine, now);
  std::vector<Residence> all;
  for (const auto& [key, residence] : known) all.push_back(residence);
  return all;
}

}  // namespace mesh::arbiter
