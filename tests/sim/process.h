// What a simulation is made of: processes on two sites. Private to the simulation.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tests/sim/cast.h"
#include "tests/sim/sim_agent.h"

namespace mesh::sim {

inline constexpr int kHomeSite = 1;
inline constexpr int kAgentSite = 2;
inline constexpr int kThirdSite = 3;  // of second instances, where they are not beside the first ones

// Something that can be killed, stopped and started again.
struct Simulation::Process {
  std::string name;
  int site = 0;
  int down = 0;  // by so many faults at once
  uint64_t life = 0;
  Instant up_since{};
  Instant went_on_at{};                    // when it was stopped last: when that is over
  std::vector<std::string> services;       // of a sidecar's agents
  std::vector<std::string> kept_services;  // of which it gives what is kept
  bool computes_with_model = false;        // an agent
  std::string admin;                       // where it takes orders
  std::unique_ptr<Sidecar> sidecar;
  std::unique_ptr<SimAgent> agent;
  std::function<std::unique_ptr<SimAgent>()> make_agent;

  bool is_sidecar() const { return sidecar != nullptr; }
  VirtualHost* host() { return sidecar ? sidecar->host() : agent ? &agent->host() : nullptr; }
};

// How long what it did may be felt when it is over.
Duration aftermath_of(const Fault& fault);

}  // namespace mesh::sim
