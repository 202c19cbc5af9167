// Calls that need memory for a model before their agent may have them.

#include <algorithm>
#include <string>
#include <vector>

#include "sidecar/proxy/inbound.h"

namespace mesh::proxy {

void Inbound::leave_model(uint64_t id, const Call& call, Instant now, Actions& out) {
  if (call.model == kNoModel) [[likely]]
    return;
  if (call.has_model) {
    models_.leave(call.model, now, out);
  } else {
    models_.give_up(call.model, id, out);
  }
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
  for (const AgentIndex agent : agents) pump(agent, now, out);
}

void Inbound::on(const ModelQueued& event, Instant now, Actions& out) { models_.queued(event.model, now, out); }

void Inbound::on(const ModelRefused& event, Instant now, Actions& out) {
  counters_.add(Counter::kModelRefusals);
  for (const uint64_t id : models_.refused(event.model)) {
    Call& call = *calls_.find(id);
    unqueue(id, call);
    if (call.keyed) queued_bytes_ -= call.bytes;
    finish(id,
           rejector_.reject(event.code, services_[call.service].name, "model", event.reason,
                            "the arbiter gives no memory for model '" + models_.name(event.model) +
                                "': " + std::string(event.reason),
                            "see who has it with meshctl gpu; the agent never saw the request"),
           now, out);
  }
}

void Inbound::on(const ModelRecalled& event, Instant /*now*/, Actions& out) {
  counters_.add(Counter::kModelRecalls);
  models_.recalled(event.model, out);
}

void Inbound::on(const ModelLost& event, Instant /*now*/, Actions& out) { models_.lost(event.model, out); }

}  // namespace mesh::proxy
