// Who stands where in a simulation, and what callers have the habit of.
#pragma once

#include <string>
#include <vector>

#include "common/contract/model_terms.h"
#include "common/gpu/units.h"
#include "sidecar/proxy/config.h"
#include "tests/sim/sim_caller.h"

namespace mesh::sim {

inline constexpr uint64_t kQueuedBytesMax = 450'000;
// Of one instance or one agent.
inline constexpr uint32_t kCallsPerTargetMax = 24;
inline constexpr uint64_t kBytesPerTargetMax = 420'000;
// What two of the services compute with: three such leases go on a roomy card, and one on a tight one.
inline constexpr gpu::Units kRoomyCard = gpu::units_of(12 * gpu::kGiB);
inline constexpr gpu::Units kTightCard = gpu::units_of(4 * gpu::kGiB);
inline const contract::ModelTerms kMind{.name = "mind", .bytes = 3 * gpu::kGiB, .hold_ms = 300, .load_ms = 20};
inline const contract::ModelTerms kEye{.name = "eye", .bytes = 3 * gpu::kGiB, .hold_ms = 200, .load_ms = 20};

// Of the sidecars, in the order in which they are started.
inline constexpr size_t kHome = 0;
inline constexpr size_t kReaders = 3;

// The callers' sidecar, with an agent of its own.
proxy::SidecarConfig home_config();
// Another on the same host, whose callers ask for facts, too. Its contract may have them kept for a shorter time.
proxy::SidecarConfig readers_config(bool keeps_briefly);
// Those with the agents.
proxy::SidecarConfig agents_config(bool is_second);
// Those that it serves or asks for, of the services whose replies are kept.
std::vector<std::string> kept_services(const proxy::SidecarConfig& config);
// One for each caller.
std::vector<Habit> habits();

}  // namespace mesh::sim
