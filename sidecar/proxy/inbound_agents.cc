// An agent comes, goes, or takes no more: what that means for its calls.

#include <algorithm>
#include <string>
#include <utility>

#include "sidecar/proxy/inbound.h"

namespace mesh::proxy {

void Inbound::on(const AgentConnected& event, Instant now, Actions& out) {
  Agent& agent = agents_[event.agent];
  counters_.add(Counter::kAgentConnects);
  agent.connected = true;
  agent.was_connected = true;
  if (agent.is_timed && models_.size() > 0) [[unlikely]]
    note_process(event.agent, event.pid, now, out);
  if (agent.is_timed) [[unlikely]]
    out.push_back(TellStandings{});
  for (const auto& [priority, deadline, id] : agent.queue) calls_.set_deadline(id, deadline);
  pump(event.agent, now, out);
}

void Inbound::on(const AgentCongested& event, Instant /*now*/, Actions& /*out*/) {
  agents_[event.agent].congested = true;
}

void Inbound::on(const AgentDrained& event, Instant now, Actions& out) {
  agents_[event.agent].congested = false;
  pump(event.agent, now, out);
}

void Inbound::on(const AgentLost& event, Instant now, Actions& out) {
  Agent& agent = agents_[event.agent];
  if (agent.connected) counters_.add(Counter::kAgentLosses);
  if (std::exchange(agent.connected, false) && agent.is_timed) out.push_back(TellStandings{});
  agent.congested = false;
  agent.working = 0;
  agent.sole = 0;
  const std::string& name = config_.agents[event.agent].name;
  std::vector<uint64_t> lost;
  calls_.for_each([&](uint64_t id, const Call& call) {
    const bool has_it = call.state == State::kDelivered || call.state == State::kAbandoned;
    if (call.agent == event.agent && has_it) lost.push_back(id);
  });
  for (const uint64_t id : lost) {
    const Call& call = *calls_.find(id);
    if (call.state == State::kAbandoned && !call.keyed) {
      if (call.wrongs != nullptr) make_wrong(call, {}, now, out);
      close(id, now, out);
      continue;
    }
    const std::string& service = services_[call.service].name;
    const bool untouched = std::find(event.not_sent.begin(), event.not_sent.end(), id) != event.not_sent.end();
    finish(id,
           untouched ? rejector_.reject(Code::kNotSent, service, "agent", "agent_lost",
                                        "agent '" + name + "' went away before it had the request", "ask again")
                     : rejector_.reject(Code::kOutcomeUnknown, service, "agent", "agent_lost",
                                        "agent '" + name + "' went away while it had the request",
                                        "it may have been executed: check before you ask again"),
           now, out);
  }
  const Instant connect_by = now + milliseconds(limits::connect_wait_ms);
  for (const auto& [priority, deadline, id] : agent.queue) {
    Call& call = *calls_.find(id);
    // A call that waits since before the last failed attempt keeps the limit it has.
    if (call.connect_by <= now) call.connect_by = std::min(deadline, connect_by);
    calls_.set_deadline(id, std::min(deadline, call.connect_by));
  }
}

}  // namespace mesh::proxy
