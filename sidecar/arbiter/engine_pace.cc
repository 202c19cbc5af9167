// Who computes, and the breaks of a hot card.
#include <algorithm>
#include <bit>

#include "sidecar/arbiter/engine.h"

namespace mesh::arbiter {

using gpu::mask_of;

void Engine::take(const LeaseUsed& event, Instant now, Actions& out) {
  Entry* entry = find(event.name, out);
  if (entry == nullptr) return;
  gpu::Lease& lease = entry->lease;
  lease.in_use = event.in_use;
  const Instant by = entry->begins_by.value_or(now + gpu::DutyCycle::kBreakMax);
  begin(*entry, out);  // what was asked before is answered
  if (!event.in_use || lease.on == 0) return;
  const bool is_paced = lease.request.priority >= Priority::kNormal;
  if (event.waits && is_paced && is_resting(lease.on)) entry->begins_by = by;
  ++lease.uses;
  const GpuState& first = gpus_[static_cast<size_t>(std::countr_zero(lease.on))];
  lease.score =
      first.worth.score(lease.uses, lease.request.load_time, gpu::weight_of(lease.request.priority), lease.units) *
      ghosts_.factor(lease.request.model, now);
}

bool Engine::is_resting(GpuMask on) const {
  bool is_resting = false;
  for_each_gpu(on, [&](GpuIndex gpu) { is_resting = is_resting || gpus_[gpu].cycle.is_resting(); });
  return is_resting;
}

Instant Engine::begins_at(const Entry& entry) const {
  Instant rested_at{};
  for_each_gpu(entry.lease.on, [&](GpuIndex gpu) {
    if (gpus_[gpu].cycle.is_resting()) rested_at = std::max(rested_at, gpus_[gpu].cycle.rested_at());
  });
  return std::min(*entry.begins_by, rested_at);
}

void Engine::begin(Entry& entry, Actions& out) {
  if (!entry.begins_by) return;
  entry.begins_by.reset();
  out.push_back(SendBegin{entry.lease.connection, entry.lease.id});
}

// Whoever waits begins when his cards have rested, or he has waited long enough.
void Engine::pace(Instant now, Actions& out) {
  GpuMask computing = 0;
  for (const auto& [id, entry] : entries_) {
    if (entry.lease.in_use && !entry.begins_by) computing |= entry.lease.on;
  }
  for (GpuIndex gpu = 0; gpu < gpus_.size(); ++gpu) {
    gpus_[gpu].cycle.observe((computing & mask_of(gpu)) != 0, gpus_[gpu].thermal.duty(), now);
  }
  GpuMask begun = 0;
  for (auto& [id, entry] : entries_) {
    if (!entry.begins_by || (is_resting(entry.lease.on) && *entry.begins_by > now)) continue;
    begin(entry, out);
    begun |= entry.lease.on;
  }
  for_each_gpu(begun, [&](GpuIndex gpu) { gpus_[gpu].cycle.observe(true, gpus_[gpu].thermal.duty(), now); });
}

}  // namespace mesh::arbiter
