// Whether what is kept may be given: as long as each who could know that it became wrong would have said so.

#include <algorithm>
#include <utility>

#include "common/routing/rendezvous.h"
#include "sidecar/proxy/outbound.h"

namespace mesh::proxy {

// The peers that must have been heard of: the one that gave the reply; where some methods make replies wrong, each that
// executes them. What happens in this sidecar it knows.
template <class Visit>
void Outbound::for_each_witness(ServiceIndex index, uint32_t origin, Visit visit) const {
  const Service& service = services_[index];
  for (uint32_t i = 0; i < service.instances.size(); ++i) {
    const Instance& instance = service.instances[i];
    if (!instance.local && (service.has_writes || i == origin)) visit(instance.peer);
  }
}

bool Outbound::is_leased(ServiceIndex service, uint32_t origin, Instant now) const {
  bool is_leased = true;
  for_each_witness(service, origin, [&](PeerIndex peer) { is_leased = is_leased && leases_.holds(peer, now); });
  return is_leased;
}

// Whether to wait for leases before what is kept is given, or before the agent is asked: a reply of one of several
// instances is only kept if by then all would have told.
bool Outbound::waits_for_leases(ServiceIndex index, const cache::Kept* worth_giving, Instant now) const {
  const Service& service = services_[index];
  if (worth_giving == nullptr && (!service.has_writes || service.instances.size() == 1)) return false;
  bool is_coming = true;
  bool is_there = true;
  for_each_witness(index, worth_giving != nullptr ? worth_giving->origin : kNobody, [&](PeerIndex peer) {
    is_there = is_there && leases_.holds(peer, now);
    is_coming = is_coming && (leases_.holds(peer, now) || leases_.is_asked(peer));
  });
  return is_coming && !is_there;
}

// How far it is known here what the instances made wrong, but for one of them; 0 if it is not known of each. The same
// for all who know the same, in whatever order they name them.
uint64_t Outbound::knowledge_beside(ServiceIndex index, uint32_t except) const {
  const Service& service = services_[index];
  uint64_t sum = 1;
  for (uint32_t i = 0; i < service.instances.size(); ++i) {
    if (i == except) continue;
    const Instance& instance = service.instances[i];
    const auto position = instance.local ? inbound_.purge_position() : leases_.position(instance.peer);
    if (!position) return 0;
    sum += routing::rendezvous_weight(*position, instance.name_digest);
  }
  return std::max<uint64_t>(sum, 1);
}

void Outbound::renew_leases(ServiceIndex service, Instant now, Actions& out) {
  for (const Instance& instance : services_[service].instances) {
    if (!instance.local) leases_.want(instance.peer, now, out);
  }
}

// If it fails, what is kept is to be given, and where several write, what comes is to be kept: the leases must still be
// there then.
bool Outbound::needs_leases(const Fetch& fetch) const {
  const Service& service = services_[fetch.service];
  return fetch.terms->stale_if_error_ms > 0 || (service.has_writes && service.instances.size() > 1);
}

void Outbound::watch_leases(const Fetch& fetch, Instant now) {
  if (needs_leases(fetch)) renew_leases_at_ = std::min(renew_leases_at_, now + milliseconds(limits::lease_renewal_ms));
}

void Outbound::renew_leases_of_fetches(Instant now, Actions& out) {
  renew_leases_at_ = kNever;
  for (const auto& [hash, fetch] : fetches_) {
    if (needs_leases(*fetch)) renew_leases(fetch->service, now, out);
    watch_leases(*fetch, now);
  }
}

TieredCache::Found Outbound::find_kept(const Fetch& fetch, Instant now) {
  return kept_.find_again(fetch.key, *fetch.terms, fetch.service, role_of(fetch.is_home), now);
}

// Whoever could make it wrong knew before it was executed whom to tell: either the leases were there, or the only one
// was asked for before, on the same connection. Where others write as well it may have been kept by one who knew as
// much as was known here when it was asked for; others of this host may know more by now, and as long as the leases
// run, what they know is waited for here, too.
bool Outbound::may_keep(const Fetch& fetch, Instant now) const {
  const Service& service = services_[fetch.service];
  const Instance& origin = service.instances[fetch.origin];
  if (!origin.local && !leases_.is_offered(origin.peer)) return false;
  const bool is_only = is_only_writer(fetch.service);
  if (fetch.was_leased) return is_only || is_leased(fetch.service, fetch.origin, now);
  return is_only && (origin.local || fetch.payload.body.size() <= limits::bulk_body_bytes);
}

// It may have been executed long ago, so whoever asks now must not have been told of a write since.
bool Outbound::may_join(const Fetch& fetch, Instant now) const {
  if (!fetch.is_sent) return true;
  const Service& service = services_[fetch.service];
  const bool is_only =
      (!service.has_writes || service.instances.size() == 1) && fetch.payload.body.size() <= limits::bulk_body_bytes;
  bool is_told = true;
  for_each_witness(fetch.service, fetch.origin, [&](PeerIndex peer) {
    is_told = is_told && (leases_.holds(peer, now) || (is_only && leases_.precedes_fetch(peer, fetch.since, now)));
  });
  return is_told;
}

// What is kept would do, or what is fetched would be kept, as soon as the leases are there that are asked for.
void Outbound::validate(const std::shared_ptr<Fetch>& fetch, Instant now) {
  fetches_[flight_of(fetch->key.hash, fetch->is_home)] = fetch;
  fetch->began = now;
  fetch->since = purges_.position();
  validating_.push_back(fetch);
}

void Outbound::go_on_validating(Instant now, Actions& out) {
  for (const std::shared_ptr<Fetch>& fetch : std::exchange(validating_, {})) {
    const TieredCache::Found found = find_kept(*fetch, now);
    const cache::Kept* kept = found.kept;
    if (kept != nullptr && kept->revalidate_until <= now) kept = nullptr;
    const bool has_time = now < fetch->began + milliseconds(limits::lease_wait_ms);
    if (has_time && waits_for_leases(fetch->service, kept, now)) {
      validating_.push_back(fetch);
      continue;
    }
    if (kept == nullptr || !is_leased(fetch->service, kept->origin, now)) {
      look_further(fetch, now, out);
      continue;
    }
    give_to_all(fetch, found, now, out);
  }
}

// To all who wait for it what is kept; and what has run out is fetched anew.
void Outbound::give_to_all(const std::shared_ptr<Fetch>& fetch, const TieredCache::Found& found, Instant now,
                           Actions& out) {
  const cache::Kept given = *found.kept;  // giving it may bring others, for whom it has to go
  const auto verdict = now < given.fresh_until ? telemetry::CacheVerdict::kHit : telemetry::CacheVerdict::kStale;
  const contract::Tier tier = fetch->was_on_disk ? contract::Tier::kDisk : found.tier;
  for (const uint64_t id : std::exchange(fetch->waiters, {})) {
    Waiting waiter = waiting_.close(id);
    give(waiter.call, {&given, tier}, verdict, waiter.echoes, now, out);
  }
  if (now >= given.fresh_until) return this->fetch(fetch, now, out);
  end_flight(*fetch);
  forget(fetch);
}

// Something may have been missed that became wrong there. What the peer itself gave behind the mark it gave to one who
// is told; what another instance gave may be older than a write at the peer.
void Outbound::void_services_of(PeerIndex peer, uint64_t mark, Actions& out) {
  const uint64_t latest = purges_.mark();
  for (ServiceIndex i = 0; i < services_.size(); ++i) {
    const Service& service = services_[i];
    const bool is_there =
        std::any_of(service.instances.begin(), service.instances.end(),
                    [&](const Instance& instance) { return !instance.local && instance.peer == peer; });
    if (!is_there) continue;
    const uint64_t name = cache::name_hash(service.name, "");
    const bool is_shared = service.has_writes && service.instances.size() > 1;
    purges_.purge_before(is_shared ? latest : mark, name);
    if (is_shared && !service.agents.empty()) inbound_.erase_on_disk(std::span(&name, 1), out);
  }
}

void Outbound::on(const PeerLeased& event, Instant now, Actions& out) {
  if (const auto mark = leases_.on_leased(event)) void_services_of(event.peer, *mark, out);
  leases_.settle(event.peer);
  go_on_validating(now, out);
}

void Outbound::on(const PeerPurged& event, Instant now, Actions& out) {
  counters_.add(Counter::kCachePurges, event.names.size());
  if (const auto mark = leases_.on_purged(event)) void_services_of(event.peer, *mark, out);
  for (const uint64_t name : event.names) purges_.purge(name);
  leases_.settle(event.peer);
  if (!event.is_relayed && shares_service_with(event.peer)) {
    inbound_.relay(event, now, out);
  } else {
    out.push_back(HearPurge{event.peer, event.token});
  }
  go_on_validating(now, out);
}

bool Outbound::shares_service_with(PeerIndex peer) const {
  for (ServiceIndex i = 0; i < services_.size(); ++i) {
    const Service& service = services_[i];
    const bool is_there =
        std::any_of(service.instances.begin(), service.instances.end(),
                    [&](const Instance& instance) { return !instance.local && instance.peer == peer; });
    if (is_there && !service.agents.empty()) return true;
  }
  return false;
}

}  // namespace mesh::proxy
