// A sidecar with agents that compute with models.
#pragma once

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "tests/unit/engine_bench.h"

namespace mesh::proxy {

inline constexpr int64_t kHold_ms = 5000;

// Two agents that take one request each; "read" and "scan" compute with one model, "count" with none.
struct Studio : Bench {
  Studio() {
    config.arbiter_path = "arbiter";
    config.agents = {{.name = "one", .service = "eye", .endpoint = {}},
                     {.name = "two", .service = "eye", .endpoint = {}}};
    const contract::ModelTerms model{.name = "trocr", .bytes = 1 << 30, .hold_ms = kHold_ms, .load_ms = 3000};
    for (const char* method : {"read", "scan"}) {
      contract::Declaration terms;
      terms.model = model;
      config.contracts.declare_method("eye", method, terms);
    }
    contract::Declaration other;
    other.model = contract::ModelTerms{.name = "other", .bytes = 1 << 30, .hold_ms = 60'000, .load_ms = 400};
    config.contracts.declare_method("eye", "zoom", other);
    config.contracts.declare_method("eye", "count", {});
    engine.emplace(config);
    for (AgentIndex i : {0U, 1U}) tell(AgentConnected{i});
  }
  ~Studio() { CHECK(engine->audit() == ""); }
  uint64_t next_call = 1;
  void ask(std::string_view method, Priority priority = Priority::kNormal, int64_t budget_ms = 60'000) {
    tell(PeerRequested{.link = 7,
                       .call_id = next_call++,
                       .service = "eye",
                       .method = method,
                       .budget = milliseconds(budget_ms),
                       .priority = priority,
                       .payload = {Slice::copy_of(method), {}}});
  }
  std::vector<std::string> delivered() {
    std::vector<std::string> bodies;
    for (const DeliverToAgent& each : take<DeliverToAgent>()) {
      bodies.emplace_back(each.payload.body.text());
      held.push_back(each);
    }
    return bodies;
  }
  void answer() {
    const DeliverToAgent first = held.front();
    held.erase(held.begin());
    tell(AgentReplied{.agent = first.agent, .call_id = first.call_id, .payload = {Slice::copy_of("done"), {}}});
  }
  size_t asks() { return take<AskModel>().size(); }
  size_t returns() { return take<ReturnModel>().size(); }
  std::vector<Code> codes() {
    std::vector<Code> all;
    for (const SendReply& reply : take<SendReply>()) all.push_back(reply.outcome.code);
    return all;
  }
  std::vector<DeliverToAgent> held;
};
using Bodies = std::vector<std::string>;

}  // namespace mesh::proxy
