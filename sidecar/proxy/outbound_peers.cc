// What becomes of calls when a connection to their peer comes or goes.

#include <algorithm>
#include <utility>

#include "sidecar/proxy/outbound.h"

namespace mesh::proxy {

std::vector<uint64_t> Outbound::calls_at(PeerIndex peer, wire::Lane lane) {
  std::vector<uint64_t> ids;
  calls_.for_each([&](uint64_t id, const Call& call) {
    const Instance& instance = instance_of(call);
    if (!instance.local && instance.peer == peer && call.lane == lane) ids.push_back(id);
  });
  return ids;
}

void Outbound::on(const PeerConnected& event, Instant now, Actions& out) {
  Peer& peer = peers_[event.peer];
  peer.up[static_cast<size_t>(event.lane)] = true;
  recorder_.forget_clock(event.peer);
  peer.failing[static_cast<size_t>(event.lane)] = false;
  peer.draining[static_cast<size_t>(event.lane)] = false;
  for (const uint64_t id : calls_at(event.peer, event.lane)) calls_.set_deadline(id, calls_.find(id)->deadline);
  if (event.lane == wire::Lane::kInteractive) {
    leases_.on_connected(event.peer, event.offers_leases, now, out);
    orders_.on_connected(event.peer, event.offers_leases, out);
    settle_purges(now, out);
  }
}

void Outbound::on(const PeerLost& event, Instant now, Actions& out) {
  Peer& peer = peers_[event.peer];
  const bool was_up = std::exchange(peer.up[static_cast<size_t>(event.lane)], false);
  peer.failing[static_cast<size_t>(event.lane)] = !was_up;
  // The other connection to the same process may still be up: what would leave on it now is lost.
  peer.draining[static_cast<size_t>(event.lane)] = false;
  if (event.lane == wire::Lane::kInteractive) {
    leases_.on_lost(event.peer);
    inbound_.forget_relays_of(event.peer);
    standings_.forget(event.peer, services_);
    orders_.on_lost(event.peer, now, out);
  }
  const auto contains = [](const std::vector<uint64_t>& ids, uint64_t id) {
    return std::find(ids.begin(), ids.end(), id) != ids.end();
  };
  const std::string name = config_.peers[event.peer].host + "/" + config_.peers[event.peer].sidecar;
  for (const uint64_t id : calls_at(event.peer, event.lane)) {
    const Call& call = *calls_.find(id);
    const std::string& service = services_[call.service].name;
    if (contains(event.waiting, id)) {
      // Another instance takes it now; alone it waits for the peer a little longer.
      telemetry::Choices choices;
      if (!call.key && choose(call, now, choices)) {
        out.push_back(CancelAtPeer{.peer = event.peer, .lane = event.lane, .call_id = id});
        conclude(id,
                 rejector_.reject(Code::kNotSent, service, "link", "peer_unreachable",
                                  "sidecar " + name + " cannot be reached", "is it running?"),
                 now, out);
      } else if (was_up) {
        calls_.set_deadline(id, std::min(call.deadline, now + milliseconds(limits::connect_wait_ms)));
      }
    } else if (contains(event.not_sent, id)) {
      conclude(id,
               rejector_.reject(Code::kNotSent, service, "link", "link_lost",
                                "the link to " + name + " broke before the call was out", "ask again"),
               now, out);
    } else {
      conclude(id,
               rejector_.reject(Code::kOutcomeUnknown, service, "link", "link_lost",
                                "the link to " + name + " broke while the call was under way",
                                "it may have been executed: check before you ask again"),
               now, out);
    }
  }
  if (!validating_.empty()) [[unlikely]]
    go_on_validating(now, out);
}

void Outbound::on(const PeerDraining& event, Instant /*now*/, Actions& /*out*/) {
  peers_[event.peer].draining[static_cast<size_t>(event.lane)] = true;
}

void Outbound::on(const PeerLacksKeys& event, Instant now, Actions& out) {
  Call* call = calls_.find(event.call_id);
  if (call == nullptr || instance_of(*call).local || instance_of(*call).peer != event.peer) return;
  const PeerConfig& peer = config_.peers[event.peer];
  conclude(event.call_id,
           rejector_.reject(Code::kNoRoute, services_[call->service].name, "routing", "peer_too_old",
                            "sidecar " + peer.host + "/" + peer.sidecar + " keeps no idempotency keys",
                            "upgrade it, or ask without a key"),
           now, out);
}

}  // namespace mesh::proxy
