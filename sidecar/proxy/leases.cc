#include "sidecar/proxy/leases.h"

#include <algorithm>
#include <set>
#include <string>
#include <utility>

#include "common/base/limits.h"

namespace mesh::proxy {
namespace {

// The other end is there, but the answer is not: it was lost with a connection before this one knew.
constexpr int64_t kAskAgain_ms = 1000;

// Who notices that something was missed makes all of the peer's services wrong that it knows, and on its own disk what
// its agents gave. So it can say for others that it is done if they know the same services, and have no such disk.
uint64_t witness_name(const SidecarConfig& config, const PeerConfig& peer) {
  std::set<std::string_view> services(peer.services.begin(), peer.services.end());
  std::string name = peer.sidecar;
  for (const std::string_view service : services) name.append(1, '\0').append(service);
  const bool is_beside = std::any_of(config.agents.begin(), config.agents.end(),
                                     [&](const AgentConfig& agent) { return services.contains(agent.service); });
  if (is_beside) name.append(2, '\0').append(config.host).append(1, '\0').append(config.sidecar);
  return cache::name_hash(peer.host, name);
}

}  // namespace

Leases::Leases(const SidecarConfig& config, cache::Purges& purges, cache::SharedTier* shared)
    : leases_(config.peers.size()), purges_(purges) {
  if (shared == nullptr) return;
  for (PeerIndex i = 0; i < leases_.size(); ++i) {
    leases_[i].host = shared->witness(witness_name(config, config.peers[i]));
  }
}

void Leases::want(PeerIndex peer, Instant now, Actions& out) {
  Lease& lease = leases_[peer];
  if (lease.is_wanted) return dial(peer, now, out);
  const Duration since_asked = now - lease.asked_at;
  if (lease.is_asked && since_asked < milliseconds(kAskAgain_ms)) return;
  if (holds(peer, now) && since_asked < milliseconds(limits::lease_renewal_ms)) return;
  if (lease.is_up && !lease.is_offered) return;
  lease.mark = purges_.mark();
  if (!lease.is_up) {
    lease.is_wanted = true;
    return dial(peer, now, out);
  }
  ask(peer, now, out);
}

// There may be nothing else to be said to it: who asks agents of this sidecar asks nobody there.
void Leases::dial(PeerIndex peer, Instant now, Actions& out) {
  Lease& lease = leases_[peer];
  if (now < lease.dial_again_at) return;
  lease.dial_again_at = now + milliseconds(kAskAgain_ms);
  out.push_back(DialPeer{peer});
}

void Leases::give_back(Actions& out) {
  for (PeerIndex peer = 0; peer < leases_.size(); ++peer) {
    Lease& lease = leases_[peer];
    if (lease.is_up && lease.asked_at != Instant{}) out.push_back(AskLease{peer, 0});
    lease.until = {};
    lease.is_asked = false;
  }
}

void Leases::ask(PeerIndex peer, Instant now, Actions& out) {
  Lease& lease = leases_[peer];
  lease.is_asked = true;
  lease.asked_at = now;
  lease.token = ++last_token_;
  out.push_back(AskLease{peer, lease.token});
}

void Leases::on_connected(PeerIndex peer, bool is_offered, Instant now, Actions& out) {
  Lease& lease = leases_[peer];
  lease.is_up = true;
  lease.is_offered = is_offered;
  if (std::exchange(lease.is_wanted, false) && is_offered) ask(peer, now, out);
}

// What is held until its end is still held: the peer waits for that.
void Leases::on_lost(PeerIndex peer) {
  Lease& lease = leases_[peer];
  lease.is_up = false;
  lease.is_asked = false;
}

// Whether this process has, or another of its host. A peer that was started anew counts from another number, far away.
bool Leases::has_heard_of(const Lease& lease, uint64_t position) {
  constexpr uint64_t kApartMax = 1 << 24;
  if (!lease.host) return lease.is_known && lease.position == position;
  const auto known = lease.host->known();
  return known && *known - position < kApartMax;
}

std::optional<uint64_t> Leases::on_leased(const PeerLeased& event) {
  Lease& lease = leases_[event.peer];
  if (!lease.is_asked || event.token != lease.token) return std::nullopt;
  lease.is_asked = false;
  lease.until = until_if_asked_at(lease.asked_at);
  const bool has_missed = !has_heard_of(lease, event.position);
  lease.is_known = true;
  lease.position = event.position;
  if (!has_missed) return std::nullopt;
  // Others of this host may have asked the process before behind the mark, under a lease of that one.
  return lease.host && lease.host->known() ? purges_.mark() : lease.mark;
}

std::optional<uint64_t> Leases::on_purged(const PeerPurged& event) {
  Lease& lease = leases_[event.peer];
  const bool is_next = lease.is_known && lease.position + 1 == event.position;
  const bool has_missed = !is_next && !has_heard_of(lease, event.position - 1);
  lease.is_known = true;
  lease.position = event.position;
  return has_missed ? std::optional(purges_.mark()) : std::nullopt;
}

void Leases::settle(PeerIndex peer) {
  Lease& lease = leases_[peer];
  if (!lease.host) return;
  auto known = lease.host->known();
  while (!has_heard_of(lease, lease.position) && !lease.host->exchange_known(known, lease.position)) {
  }
}

}  // namespace mesh::proxy
