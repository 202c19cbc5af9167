// What the engine asked for, done: no decision is made here but which connection it goes to.

#include <utility>

#include "sidecar/proxy/driver.h"

namespace mesh::proxy {

void Driver::perform() {
  if (performing_) return;  // the outer call goes on with what was added
  performing_ = true;
  while (!actions_.empty()) {
    acting_.swap(actions_);
    for (acted_ = 0; acted_ < acting_.size();) std::visit([this](auto& each) { act(each); }, acting_[acted_++]);
    acting_.clear();
  }
  performing_ = false;
}

void Driver::act(ReplyToAgent& action) {
  if (auto* session = sessions_.find(action.path.client)) {
    static_cast<ClientSession&>(**session).reply(std::move(action.path), std::move(action.outcome));
  }
}

void Driver::act(SendToPeer& action) {
  PeerLane& to = lane(action.peer, action.lane);
  to.send(std::move(action));
}

void Driver::act(CancelAtPeer& action) { lane(action.peer, action.lane).cancel(action.call_id); }

// The lane for the reply's size, if the peer has opened it.
LinkSession* Driver::reply_link(LinkId link, uint64_t call_id, size_t body_bytes) {
  auto* session = sessions_.find(link);
  if (session == nullptr) return nullptr;
  auto& asked_on = static_cast<LinkSession&>(**session);
  const wire::Lane wanted = body_bytes > limits::bulk_body_bytes ? wire::Lane::kBulk : wire::Lane::kInteractive;
  asked_on.close_call(call_id);
  if (asked_on.peer().lane == wanted) return &asked_on;
  const wire::Hello& peer = asked_on.peer();
  const auto at = peer_links_.find(peer.host + "/" + peer.sidecar + "/" + std::to_string(peer.epoch));
  if (at == peer_links_.end()) return &asked_on;
  auto* other = sessions_.find(at->second.lane[static_cast<size_t>(wanted)]);
  return other != nullptr ? &static_cast<LinkSession&>(**other) : &asked_on;
}

void Driver::act(SendReply& action) {
  LinkSession* link = reply_link(action.link, action.call_id, action.outcome.payload.body.size());
  if (link == nullptr) return;  // whoever asked has been told that the link is lost
  const wire::Delivery sensitive{.is_sensitive = true};
  wire::KeptMark kept;
  const telemetry::CacheTrace* cache = action.outcome.cache.get();
  if (cache != nullptr) {
    kept = {.verdict = static_cast<uint32_t>(cache->verdict), .tier = cache->tier, .age_ms = cache->age_ms};
  }
  std::vector<wire::Standing> standings;
  if (action.standing != kNoStanding) [[unlikely]] {
    standings.push_back(engine_.inbound().standing(action.standing, now()));
    standings[0].service = standings[0].model = {};
  }
  link->put({.kind = wire::Kind::kReply,
             .call_id = action.call_id,
             .code = action.outcome.code,
             .error = action.outcome.error.get(),
             .body = std::move(action.outcome.payload.body),
             .part_sizes = std::move(action.outcome.payload.part_sizes),
             .spans = &action.spans,
             .delivery = action.is_sensitive ? &sensitive : nullptr,
             .kept = cache != nullptr ? &kept : nullptr,
             .standings = standings.empty() ? nullptr : &standings});
}

// To whoever asks here, and wants to know.
void Driver::tell_standings(LinkSession& link) {
  const wire::Hello& peer = link.peer();
  const bool is_wanted = peer.lane == wire::Lane::kInteractive && (peer.features & wire::kFeatureStandings) != 0;
  if (link.lane() != nullptr || !is_wanted) return;
  const size_t count = engine_.inbound().standings().size();
  std::vector<wire::Standing> standings;
  for (StandingIndex i = 0; i < count; ++i) {
    standings.push_back(engine_.inbound().standing(i, now()));
    if (standings.size() < limits::standings_max && i + 1 < count) continue;
    link.put({.kind = wire::Kind::kStanding, .standings = &standings});
    standings.clear();
  }
}

void Driver::act(TellStandings& /*action*/) {
  for_each_peer_link([this](LinkSession& link) { tell_standings(link); });
}

void Driver::act(DeliverToAgent& action) { agents_[action.agent]->deliver(action); }

// Calls that were to be delivered to the agent and have not been.
void Driver::add_undelivered(AgentIndex agent, std::vector<uint64_t>& calls) const {
  const auto add = [&](std::span<const Action> actions) {
    for (const Action& action : actions) {
      const auto* deliver = std::get_if<DeliverToAgent>(&action);
      if (deliver != nullptr && deliver->agent == agent) calls.push_back(deliver->call_id);
    }
  };
  if (!acting_.empty()) add(std::span(acting_).subspan(acted_));
  add(actions_);
}

void Driver::act(ReplaceAgentConnection& action) { agents_[action.agent]->replace(); }

LinkSession* Driver::link(LinkId id) {
  auto* session = sessions_.find(id);
  return session != nullptr ? &static_cast<LinkSession&>(**session) : nullptr;
}

void Driver::act(AskLease& action) {
  lane(action.peer, wire::Lane::kInteractive).say({.kind = wire::Kind::kLease, .call_id = action.token});
}

void Driver::act(HearPurge& action) {
  lane(action.peer, wire::Lane::kInteractive).say({.kind = wire::Kind::kPurged, .call_id = action.token});
}

void Driver::act(GrantLease& action) {
  const wire::Validity validity{.position = action.position, .names = {}};
  if (auto* to = link(action.link))
    to->put({.kind = wire::Kind::kLeased, .call_id = action.token, .validity = &validity});
}

void Driver::act(TellPurge& action) {
  const wire::Validity validity{.position = action.position, .names = *action.names, .is_relayed = action.is_relayed};
  if (auto* to = link(action.link))
    to->put({.kind = wire::Kind::kPurge, .call_id = action.token, .validity = &validity});
}

void Driver::act(ConfirmPurge& action) {
  if (auto* to = link(action.link)) to->put({.kind = wire::Kind::kPurged, .call_id = action.token});
}

void Driver::act(LoadReply& action) { settings_.replies->load(action.ticket, {action.hash.low, action.hash.high}); }

void Driver::act(StoreReply& action) {
  settings_.replies->put(
      {action.hash.low, action.hash.high}, std::move(action.value),
      {.cost_us = action.cost_us, .ttl_ms = action.ttl_ms, .age_ms = action.age_ms, .names = action.names});
}

void Driver::act(EraseReplies& action) {
  settings_.replies->erase(action.ticket, action.names);
  if (!settings_.replies->stats().is_serving) tell(RepliesErased{action.ticket, true});
}

void Driver::act(PutRecord& action) {
  settings_.records->put(action.ticket, action.key.bytes, std::move(action.value));
}

void Driver::act(LoadRecord& action) { settings_.records->load(action.ticket, action.key.bytes); }

void Driver::act(EraseRecord& action) { settings_.records->erase(action.key.bytes); }

}  // namespace mesh::proxy
