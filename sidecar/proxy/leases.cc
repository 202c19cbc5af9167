#include "sidecar/proxy/leases.h"

#include <utility>

#include "common/base/limits.h"

namespace mesh::proxy {
namespace {

// The other end is there, but the answer is not: it was lost with a connection before this one knew.
constexpr int64_t kAskAgain_ms = 1000;

}  // namespace

Leases::Leases(std::span<const uint64_t> views, cache::Purges& purges, cache::SharedTier* shared)
    : leases_(views.size()), purges_(purges), is_shared_(shared != nullptr) {
  if (shared == nullptr) return;
  for (PeerIndex i = 0; i < leases_.size(); ++i) leases_[i].host = shared->witness(views[i]);
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

// A peer that was started anew counts from another number, far away.
bool Leases::reaches(std::optional<uint64_t> up_to, uint64_t position) {
  constexpr uint64_t kApartMax = 1 << 24;
  return up_to && *up_to - position < kApartMax;
}

// Whether this process has, or another of its host.
bool Leases::has_heard_of(const Lease& lease, uint64_t position) {
  return lease.host ? reaches(lease.host->known(), position) : lease.is_known && lease.position == position;
}

std::optional<uint64_t> Leases::on_leased(const PeerLeased& event) {
  Lease& lease = leases_[event.peer];
  if (!lease.is_asked || event.token != lease.token) return std::nullopt;
  lease.is_asked = false;
  lease.until = until_if_asked_at(lease.asked_at);
  const bool has_missed = !has_heard_of(lease, event.position);
  // Others of this host may have asked since this did, and before something became wrong; but for the first to hear,
  // as far as that can be known: a host remembers only so many peers.
  const bool may_others_keep = lease.host ? lease.host->known().value_or(0) != 0 : is_shared_;
  lease.is_known = true;
  lease.position = event.position;
  if (!has_missed) return std::nullopt;
  begin_noting(lease);
  return may_others_keep ? purges_.mark() : lease.mark;
}

std::optional<uint64_t> Leases::on_purged(const PeerPurged& event) {
  Lease& lease = leases_[event.peer];
  const bool is_next = lease.is_known && lease.position + 1 == event.position;
  const bool has_missed = !is_next && !has_heard_of(lease, event.position - 1);
  lease.is_known = true;
  lease.position = event.position;
  begin_noting(lease);
  return has_missed ? std::optional(purges_.mark()) : std::nullopt;
}

// Who of this host begins something meanwhile begins behind it in the book, and must not say that it knows only what
// was known before. If this process is stopped or killed on the way, the next that hears of it goes on.
void Leases::begin_noting(Lease& lease) {
  if (!lease.host) return;
  auto noting = lease.host->noting();
  while (!reaches(noting, lease.position) && !lease.host->exchange_noting(noting, lease.position)) {
  }
}

void Leases::settle(PeerIndex peer) {
  Lease& lease = leases_[peer];
  if (!lease.host) return;
  auto known = lease.host->known();
  while (!has_heard_of(lease, lease.position) && !lease.host->exchange_known(known, lease.position)) {
  }
}

}  // namespace mesh::proxy
