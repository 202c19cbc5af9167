// How soon somebody could use a model if he asked for its memory now: what is said to those who choose between hosts.
#pragma once

#include <functional>
#include <vector>

#include "common/gpu/lease.h"
#include "common/gpu/ledger.h"
#include "common/gpu/thermal.h"
#include "sidecar/arbiter/engine.h"

namespace mesh::arbiter {

enum class Place : uint8_t {
  kDisk,
  kCached,    // others of this host have it, or it was kept in memory when it went
  kLoading,   // the asker has its memory, or it is being written as shared weights
  kResident,  // and it is loaded
};

struct Outlook {
  Place place = Place::kDisk;
  bool never_fits = false;
  Duration usable_in = kForever;  // room made and loaded, about
  // Of the card where it is, or would be.
  gpu::Pressure pressure = gpu::Pressure::kGreen;
  gpu::Band band = gpu::Band::kCool;
  static constexpr Duration kForever = Duration::max();
};

// See Engine::plan().
using Planner = std::function<std::vector<CardPlan>(const gpu::Request&, Instant, LeaseId waiting)>;

// Of a request as the process would make it; its load_time is what counts where nothing better is known.
Outlook outlook_of(const Engine& engine, const Planner& plan, const gpu::Request& request, ProcessId asker,
                   Instant now);

}  // namespace mesh::arbiter
