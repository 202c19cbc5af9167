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

inline proxy::SidecarConfig agent_config(bool parallel = false) {
  proxy::SidecarConfig config;
  config.host = "b";
  config.sidecar = "main";
  config.admin_path = "b.admin";
  config.listen = endpoint("b.link");
  config.agents.push_back({.name = "echo", .service = "echo", .endpoint = endpoint("b.agent")});
  if (parallel) {
    config.agents[0].socket = proxy::AgentSocket::kRouter;
    config.agents[0].in_flight = 64;
  }
  return config;
}

// Of an error as agents see it.
inline bool has_code(const std::string& reply, std::string_view code) {
  return reply.find("\"code\":\"" + std::string(code) + "\"") != std::string::npos;
}

struct World {
  VirtualNetwork network;
  Sidecar a;
  Sidecar b;
  ScriptedAgent agent;

  // With a parallel agent: a ROUTER that works on many requests at once.
  explicit World(uint64_t seed = 1, bool parallel = false)
      : network(seed),
        a(network, caller_config(), 1),
        b(network, agent_config(parallel), 2),
        agent(network, "b.agent", parallel ? zmtp::SocketType::kRouter : zmtp::SocketType::kRep) {
    network.run_for(milliseconds(500));
  }
  std::unique_ptr<Caller> caller(zmtp::SocketType type = zmtp::SocketType::kReq) {
    auto made = std::make_unique<Caller>(network, "a.echo", type);
    network.run_for(milliseconds(5));
    return made;
  }
};

}  // namespace mesh::sim
