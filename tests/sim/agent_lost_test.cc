// An agent's connection that ends in the turn in which it was to be given something.

#include <doctest/doctest.h>

#include <string>

#include "common/base/limits.h"
#include "tests/sim/world.h"

namespace mesh::sim {
namespace {

// A ROUTER agent that works on two at once, and callers beside the same sidecar.
proxy::SidecarConfig one_sidecar() {
  proxy::SidecarConfig config = agent_config(true);
  config.agents[0].in_flight = 2;
  config.ports.push_back({.name = "echo", .listen = endpoint("b.echo"), .service = "echo", .terms = {}});
  contract::Declaration pay;
  pay.budget_ms = 200;
  pay.idempotency_field = "order";
  config.contracts.declare_method("echo", "pay", pay);
  contract::Declaration write;
  write.budget_ms = 200;
  contract::TagPattern::parse("all", write.invalidates.emplace().emplace_back());
  config.contracts.declare_method("echo", "write", write);
  contract::Declaration patient;
  patient.budget_ms = 60'000;
  config.contracts.declare_method("echo", "patient", patient);
  return config;
}

TEST_CASE("a call whose agent is given up in the very turn in which it was to be delivered was not sent") {
  const std::string pay = R"({"action":"pay","order":1})";
  const std::string write = R"({"action":"write"})";
  for (const bool pays_first : {false, true}) {
    VirtualNetwork network(1);
    Sidecar sidecar(network, one_sidecar(), 2);
    ScriptedAgent agent(network, "b.agent", zmtp::SocketType::kRouter);
    agent.echoes = false;
    network.run_for(milliseconds(500));
    Caller caller(network, "b.echo", zmtp::SocketType::kDealer);
    network.run_for(milliseconds(5));
    // Both are given up at the same time: of one that ends the connection, and of the other it lets the next one in.
    caller.ask(pays_first ? pay : write);
    caller.ask(pays_first ? write : pay);
    network.run_for(milliseconds(300));
    REQUIRE(agent.asked.size() == 2);
    Caller next(network, "b.echo", zmtp::SocketType::kDealer);
    next.ask(R"({"action":"patient"})");
    network.run_for(milliseconds(limits::agent_abandon_ms));
    CHECK(agent.asked.size() == 2);
    REQUIRE(next.replies.size() == 1);
    CHECK_MESSAGE(has_code(next.replies[0], "NOT_SENT"), next.replies[0]);
  }
}

}  // namespace
}  // namespace mesh::sim
