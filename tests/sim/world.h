// The smallest mesh: host a with callers, host b with an agent, a sidecar on each.
#pragma once

#include <memory>

#include "tests/sim/cast.h"

namespace mesh::sim {

inline proxy::SidecarConfig caller_config() {
  proxy::SidecarConfig config;
  config.host = "a";
  config.sidecar = "main";
  config.admin_path = "a.admin";
  config.ports.push_back({.name = "echo", .listen = endpoint("a.echo"), .service = "echo", .terms = {}});
  config.peers.push_back({.host = "b", .sidecar = "main", .endpoint = endpoint("b.link"), .services = {"echo"}});
  return config;
}

inline proxy::SidecarConfig agent_config() {
  proxy::SidecarConfig config;
  config.host = "b";
  config.sidecar = "main";
  config.admin_path = "b.admin";
  config.listen = endpoint("b.link");
  config.agents.push_back({.name = "echo", .service = "echo", .endpoint = endpoint("b.agent")});
  return config;
}

struct World {
  VirtualNetwork network;
  Sidecar a;
  Sidecar b;
  ScriptedAgent agent;

  explicit World(uint64_t seed = 1)
      : network(seed), a(network, caller_config(), 1), b(network, agent_config(), 2), agent(network, "b.agent") {
    network.run_for(milliseconds(500));
  }
  std::unique_ptr<Caller> caller(zmtp::SocketType type = zmtp::SocketType::kReq) {
    auto made = std::make_unique<Caller>(network, "a.echo", type);
    network.run_for(milliseconds(5));
    return made;
  }
};

}  // namespace mesh::sim
