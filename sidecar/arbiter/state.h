// What the arbiter's engine knows of each card and of each lease.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "common/gpu/extents.h"
#include "common/gpu/ladder.h"
#include "common/gpu/lease.h"
#include "common/gpu/ledger.h"
#include "common/gpu/policing.h"
#include "common/gpu/reclaim.h"
#include "common/gpu/thermal.h"
#include "common/gpu/thrash.h"
#include "sidecar/arbiter/events.h"

namespace mesh::arbiter {

struct GpuConfig {
  Id uuid{};
  gpu::Card card{};
  gpu::ThermalThresholds thermal{};
};

struct ArbiterConfig {
  std::vector<GpuConfig> gpus{};  // in the order of their UUIDs
  // Whether samples tell processes apart. If not, who says that memory is free is believed.
  bool sees_processes = true;
};

struct GpuState {
  explicit GpuState(const GpuConfig& config)
      : ledger(config.card), swaps(config.card.total), floors(config.card.total), thermal(config.thermal) {}

  gpu::Ledger ledger;
  gpu::ExtentPool pool{};
  gpu::Worth worth{};
  gpu::SwapBudget swaps;
  gpu::Floors floors;
  gpu::Thermal thermal;
  gpu::DutyCycle cycle{};
  std::map<ProcessId, Units> contexts{};
  bool is_drained = false;  // by an operator
  bool is_sampled = false;  // before that nobody knows what others use
};

struct Entry {
  gpu::Lease lease{};
  Id layout{};
  Extents extents{};  // of a backed one, on each GPU; of a segment the segment's
  LeaseId segment{};  // of a shared one
  // Said to be free and not seen to be: in the ledger, but not the lease's any more.
  Units unseen = 0;
  Instant unseen_since{};
  GpuMask seen_on = 0;
  bool is_lost = false;        // nobody claimed it after a restart: free when no sample shows it any more
  bool is_handed = false;      // its holder was told
  bool is_released = false;    // its holder said that all of it is free
  uint8_t chunks_pending = 0;  // GPUs whose driver is creating chunks for it
  std::map<GpuIndex, Extents> failed_chunks{};
  bool is_ended = false;  // its process is gone, or it never had it: finished when none is pending
  std::optional<gpu::Ladder> ladder{};
  LeaseId beneficiary{};  // for whom it was asked to yield
  bool is_offloaded = false;
  Instant refused_until{};
  Instant trim_after{};
  std::optional<Instant> begins_by{};  // it waits to be told that it may compute, until then
  Reason why = Reason::kNone;

  bool is_waiting() const { return lease.state == gpu::LeaseState::kQueued; }
  bool is_held() const { return lease.units + unseen > 0; }
};

// In the order of ids, so that a run can be repeated.
using Entries = std::map<LeaseId, Entry>;

template <class Visit>
void for_each_gpu(GpuMask mask, Visit visit) {
  for (GpuIndex gpu = 0; mask != 0; ++gpu, mask >>= 1) {
    if ((mask & 1) != 0) visit(gpu);
  }
}

}  // namespace mesh::arbiter
