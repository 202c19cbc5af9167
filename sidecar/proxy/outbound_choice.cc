// Which instance of a service a call goes to.

#include <algorithm>

#include "sidecar/proxy/outbound.h"

namespace mesh::proxy {
namespace {

constexpr size_t kInstancesMax = 32;  // the bits of Call::tried

telemetry::Choice choice_of(uint32_t index, const Instance& instance, telemetry::Choice::State state) {
  return {.instance = static_cast<uint8_t>(index),
          .state = state,
          .own_host = instance.own_host,
          .in_flight = static_cast<uint16_t>(std::min<uint32_t>(instance.in_flight, UINT16_MAX))};
}

}  // namespace

telemetry::Choice::State Outbound::state_of(const Instance& instance, wire::Lane lane, bool was_tried) const {
  using State = telemetry::Choice::State;
  if (was_tried) return State::kTried;
  if (instance.local) return State::kAvailable;
  const Peer& peer = peers_[instance.peer];
  return peer.draining                             ? State::kDraining
         : peer.failing[static_cast<size_t>(lane)] ? State::kFailing
                                                   : State::kAvailable;
}

// Not one that drains or was tried; one whose last connection failed only where there is no other.
std::optional<uint32_t> Outbound::choose(const Call& call, telemetry::Choices& choices) const {
  using telemetry::Choice;
  using telemetry::Why;
  const Service& service = services_[call.service];
  const size_t count = std::min(service.instances.size(), kInstancesMax);
  choices.count = static_cast<uint8_t>(std::min(count, telemetry::Choices::kMax));
  choices.why = Why::kNobody;
  if (count == 1) {
    const Instance& only = service.instances[0];
    const Choice::State state = state_of(only, call.lane, call.tried != 0);
    choices.seen[0] = choice_of(0, only, state);
    if (state == Choice::State::kTried || state == Choice::State::kDraining) return std::nullopt;
    choices.chosen_instance = 0;
    choices.why = Why::kOnlyOne;
    return 0;
  }
  candidates_.clear();
  for (uint32_t i = 0; i < count; ++i) {
    const Instance& instance = service.instances[i];
    const Choice::State state = state_of(instance, call.lane, (call.tried >> i & 1) != 0);
    if (i < choices.count) choices.seen[i] = choice_of(i, instance, state);
    candidates_.push_back({i, instance.own_host, state == Choice::State::kAvailable, instance.in_flight});
  }
  auto best = routing::pick(candidates_);
  if (!best) {
    for (uint32_t i = 0; i < count; ++i) {
      candidates_[i].available =
          state_of(service.instances[i], call.lane, (call.tried >> i & 1) != 0) == Choice::State::kFailing;
    }
    best = routing::pick(candidates_);
  }
  if (!best) return std::nullopt;
  choices.chosen_instance = static_cast<uint8_t>(*best);
  choices.why = call.tried != 0                     ? Why::kNextAfterNotSent
                : service.instances[*best].own_host ? Why::kOwnHost
                                                    : Why::kFewestInFlight;
  return static_cast<uint32_t>(*best);
}

Outcome Outbound::no_instance(const Call& call) const {
  return rejector_.reject(Code::kDraining, services_[call.service].name, "routing", "all_draining",
                          "every instance of the service is shutting down", "ask again in a second");
}

}  // namespace mesh::proxy
