// Calls that need memory for a model before their agent may have them.

#include <algorithm>
#include <string>
#include <vector>

#include "common/base/ewma.h"
#include "sidecar/proxy/inbound.h"

namespace mesh::proxy {

void Inbound::leave_model(uint64_t id, const Call& call, Instant now, Actions& out) {
  if (call.model == kNoModel) [[likely]]
    return;
  if (call.has_model) {
    models_.leave(call.model, call.was_answered, now, out);
  } else {
    models_.give_up(call.model, id, out);
  }
  standings_.settle(now, out);
}

// Of agents in several processes nobody knows which one's memory it is.
bool Inbound::is_only_user(uint32_t pid, ModelIndex model) const {
  for (StandingIndex i = 0; i < standings_.size(); ++i) {
    if (standings_.model(i) != model) continue;
    const std::vector<AgentIndex>& users = services_[standings_.service(i)].agents;
    const auto is_it = [&](AgentIndex agent) { return !agents_[agent].connected || agents_[agent].pid == pid; };
    if (!std::all_of(users.begin(), users.end(), is_it)) return false;
  }
  return true;
}

void Inbound::note_process(AgentIndex index, uint32_t pid, Instant now, Actions& out) {
  agents_[index].pid = pid;
  for (StandingIndex i = 0; i < standings_.size(); ++i) {
    const std::vector<AgentIndex>& mine = services_[standings_.service(i)].agents;
    if (std::find(mine.begin(), mine.end(), index) == mine.end()) continue;
    const ModelIndex model = standings_.model(i);
    const uint32_t user = is_only_user(pid, model) ? pid : 0;
    if (models_.is_for_another(model, user)) take_back_model(model);
    models_.set_process(model, user, out);
  }
  standings_.settle(now, out);
}

// The memory is none for what no agent has seen yet: that waits anew.
void Inbound::take_back_model(ModelIndex model) {
  calls_.for_each([&](uint64_t id, Call& call) {
    if (call.model != model || !call.has_model || call.state != State::kQueued) return;
    call.has_model = false;
    models_.wait_again(model, id, call.priority);
  });
}

void Inbound::note_answer(const Call& call, Instant now) {
  if (call.standing != kNoStanding) {
    if (!call.was_loaded) return;  // most of it was loading
    standings_.served(call.standing, now - call.delivered_at);
  }
  blend(agents_[call.agent].answer_us, static_cast<double>(to_us(now - call.delivered_at)));
}

// The wait is until the agent that is free first takes a call that comes now. One that is away may never be.
void Inbound::tell_queue(const Service& service, wire::Standing& standing) const {
  constexpr double kAway_us = 10e6;
  double least_us = kAway_us;
  for (const AgentIndex index : service.agents) {
    const Agent& agent = agents_[index];
    if (!agent.connected) continue;
    const size_t before = agent.working + agent.queue.size() + agent.intending;
    const size_t at_once = config_.agents[index].in_flight;
    const double rounds =
        before < at_once ? 0 : static_cast<double>(before - at_once + 1) / static_cast<double>(at_once);
    least_us = std::min(least_us, rounds * agent.answer_us);
    standing.at_once += static_cast<uint32_t>(at_once);
    if (before < at_once) standing.free += static_cast<uint32_t>(at_once - before);
  }
  standing.wait_us = static_cast<uint32_t>(std::min<double>(least_us, UINT32_MAX));
}

wire::Standing Inbound::standing(StandingIndex index, Instant now) const {
  wire::Standing standing = standings_.standing(index, now);
  tell_queue(services_[standings_.service(index)], standing);
  return standing;
}

void Inbound::on(const ModelLookedAt& event, Instant now, Actions& out) {
  standings_.looked_at(event, now);
  standings_.settle(now, out);
}

void Inbound::close(uint64_t id, Instant now, Actions& out) {
  const Call call = calls_.close(id);
  leave_model(id, call, now, out);
}

void Inbound::on(const ModelGranted& event, Instant now, Actions& out) {
  std::vector<AgentIndex> agents;
  for (const uint64_t id : models_.granted(event.model, now, out)) {
    Call& call = *calls_.find(id);
    call.has_model = true;
    if (std::find(agents.begin(), agents.end(), call.agent) == agents.end()) agents.push_back(call.agent);
  }
  standings_.settle(now, out);
  for (const AgentIndex agent : agents) pump(agent, now, out);
}

void Inbound::on(const ModelQueued& event, Instant now, Actions& out) {
  models_.queued(event.model, now, out);
  standings_.settle(now, out);
}

void Inbound::on(const ModelRefused& event, Instant now, Actions& out) {
  counters_.add(Counter::kModelRefusals);
  for (const uint64_t id : models_.refused(event.model)) {
    Call& call = *calls_.find(id);
    Outcome outcome = rejector_.reject(
        event.code, services_[call.service].name, "model", event.reason,
        "the arbiter gives no memory for model '" + models_.name(event.model) + "': " + std::string(event.reason),
        "see who has it with meshctl gpu; the agent never saw the request");
    if (call.keyed) {  // no agent has seen it: with the same key it may be asked again
      answer_waiters(call, outcome, now, out);
      on_nobody_waits(id, now, out);
      continue;
    }
    unqueue(id, call);
    finish(id, std::move(outcome), now, out);
  }
  standings_.settle(now, out);
}

void Inbound::on(const ModelRecalled& event, Instant now, Actions& out) {
  counters_.add(Counter::kModelRecalls);
  models_.recalled(event.model, out);
  standings_.settle(now, out);
}

void Inbound::on(const ModelLost& event, Instant now, Actions& out) {
  take_back_model(event.model);
  models_.lost(event.model, out);
  standings_.settle(now, out);
}

}  // namespace mesh::proxy
