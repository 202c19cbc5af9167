// Which models are where on this host's cards, and how soon one that is not could be used: what others place by.
#pragma once

#include <vector>

#include "common/gpu/residency.h"
#include "sidecar/arbiter/engine.h"

namespace mesh::arbiter {

struct Residence {
  gpu::ModelKey model{};
  GpuIndex gpu = 0;
  gpu::Residency at = gpu::Residency::kGone;
  bool is_loading = false;  // somebody has its memory, and does not compute with it yet
  uint32_t refs = 0;        // leases that have it
  Units units = 0;          // the most that one of them has, or had; of shared weights what all have at once
  Duration load_time{};     // as measured or as an agent says; 0: unknown
  Duration usable_in{};     // about, with the time to make room; 0 where it is
  Duration age{};           // since it was granted or, of what is gone, since it went
};

// What is left of a load that began then; 0 when it ought to be over.
Duration left_of(Duration load_time, Instant began, Instant now);

// Of all models that hold memory, card by card, and of those that went lately, for each card that is large enough.
// Pressure and heat are the cards' (Engine::gpus).
std::vector<Residence> residences(const Engine& engine, Instant now);

}  // namespace mesh::arbiter
