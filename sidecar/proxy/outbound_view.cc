// What people are shown of the calls that are open.

#include "sidecar/proxy/outbound.h"

namespace mesh::proxy {

std::vector<Outbound::OpenCall> Outbound::open(Instant now) {
  std::vector<OpenCall> open;
  calls_.for_each([&](uint64_t, const Call& call) {
    const Instance& instance = instance_of(call);
    open.push_back({.id = call.trace.number,
                    .service = services_[call.service].name,
                    .target = instance.local ? std::string_view("local") : config_.peers[instance.peer].host,
                    .priority = to_string(call.priority),
                    .age_ms = to_us(now - call.trace.started) / 1000,
                    .left_ms = to_us(call.deadline - now) / 1000});
  });
  waiting_.for_each([&](uint64_t, const Waiting& waiter) {
    const Call& call = waiter.call;
    open.push_back({.id = call.trace.number,
                    .service = services_[call.service].name,
                    .target = "cache",
                    .priority = to_string(call.priority),
                    .age_ms = to_us(now - call.trace.started) / 1000,
                    .left_ms = to_us(call.deadline - now) / 1000});
  });
  return open;
}

Outbound::PeerView Outbound::view(PeerIndex index) const {
  const Peer& peer = peers_[index];
  uint32_t in_flight = 0;
  for (ServiceIndex s = 0; s < services_.size(); ++s) {
    for (const Instance& instance : services_[s].instances) {
      if (!instance.local && instance.peer == index) in_flight += instance.in_flight;
    }
  }
  return {
      .connected = peer.up[0] || peer.up[1], .draining = peer.draining[0] || peer.draining[1], .in_flight = in_flight};
}

}  // namespace mesh::proxy
