// What people are told of the calls that are open, and of those that took too long.

#include "sidecar/proxy/inbound.h"

namespace mesh::proxy {

Outcome Inbound::late_outcome(const Call& call, Instant now) const {
  const AgentConfig& agent = config_.agents[call.agent];
  const std::string& service = services_[call.service].name;
  if (call.state == State::kDelivered) {
    return rejector_.reject(Code::kDeadline, service, "agent", "deadline_passed",
                            "agent '" + agent.name + "' did not answer in time",
                            "it may still be executing the request; raise budget_ms if it needs longer");
  }
  if (call.state == State::kIntending || call.state == State::kKeeping) {
    return rejector_.reject(Code::kDeadline, service, "idempotency", "deadline_passed",
                            call.state == State::kKeeping ? "the result was not written down in time"
                                                          : "the request was not written down in time",
                            "the disk is slow; raise budget_ms, or ask again with the same key");
  }
  if (!agents_[call.agent].connected && call.deadline > now) {
    return rejector_.reject(Code::kNotSent, service, "agent", "agent_down",
                            "agent '" + agent.name + "' cannot be reached at " + agent.endpoint.text,
                            "start it, or check its endpoint in the configuration");
  }
  if (lacks_model(call)) {
    return rejector_.reject(
        Code::kDeadline, service, "model", "deadline_passed",
        "memory for model '" + models_.name(call.model) + "' was not granted in time",
        "the agent never saw the request: see who has the memory with meshctl gpu, or raise budget_ms");
  }
  return rejector_.reject(Code::kDeadline, service, "queue", "deadline_passed",
                          "the call's time was used up in the queue in front of agent '" + agent.name + "'",
                          "the agent never saw it: raise budget_ms, ask less often, or run another instance");
}

std::vector<Inbound::OpenCall> Inbound::open(Instant now) {
  std::vector<OpenCall> open;
  calls_.for_each([&](uint64_t id, const Call& call) {
    constexpr std::string_view states[] = {"queued", "delivered", "abandoned", "intending", "keeping"};
    open.push_back({.id = id,
                    .agent = config_.agents[call.agent].name,
                    .state = states[static_cast<size_t>(call.state)],
                    .priority = to_string(call.priority),
                    .left_ms = to_us(call.deadline - now) / 1000});
  });
  return open;
}

Inbound::AgentView Inbound::view(AgentIndex agent) const {
  const Agent& a = agents_[agent];
  return {.connected = a.connected, .working = a.working, .queued = a.queue.size()};
}

}  // namespace mesh::proxy
