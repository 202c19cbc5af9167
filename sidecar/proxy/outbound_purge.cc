// What is to be given no more, by order: here at once, by this sidecar's agents' keepers and by every peer that serves
// what it is about, each of which tells all who keep replies of its agents.

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "sidecar/proxy/outbound.h"

namespace mesh::proxy {
namespace {

using Kind = PurgeSpec::Kind;
using Doubt = PurgeOrders::Doubt;

bool concerns(const PurgeSpec& what, const Service& service) {
  return !service.name.starts_with(kOwnNames) && (what.service.empty() || what.service == service.name);
}

std::string_view reason(Doubt doubt) {
  if (doubt == Doubt::kTooOld) return "its version cannot be told";
  return doubt == Doubt::kUnreachable ? "cannot be reached" : "did not answer in time";
}

// So many names are told at a time.
template <class Visit>
void for_each_part(const std::set<uint64_t>& names, Visit visit) {
  std::vector<uint64_t> part;
  for (const uint64_t name : names) {
    part.push_back(name);
    if (part.size() == limits::purged_names_max) visit(std::exchange(part, {}));
  }
  if (!part.empty()) visit(std::move(part));
}

}  // namespace

// At this sidecar's own service, by a local agent.
void Outbound::take_purge(Call& call, const AgentRequested& event, Instant now, Actions& out) {
  call.method = "purge";
  const bool is_whole = event.dropped_bytes == 0 && event.dropped_frames == 0 && event.payload.part_sizes.empty();
  auto what = read_purge_spec(is_whole ? event.payload.body.text() : std::string_view());
  if (!what) {
    return finish(call, rejector_.reject(std::make_unique<Error>(std::move(what.error())), "cache"), {}, now, out);
  }
  const Instant until = std::min(now + milliseconds(limits::purge_wait_ms), call.deadline);
  order_purge({.call = std::make_unique<Call>(std::move(call))}, *what, until, now, out);
}

void Outbound::on(const PurgeWanted& event, Instant now, Actions& out) {
  order_purge({.ticket = event.ticket}, event.what, now + milliseconds(limits::purge_wait_ms), now, out);
}

void Outbound::order_purge(PurgeCaller&& caller, const PurgeSpec& what, Instant until, Instant now, Actions& out) {
  caller.text = what.text();
  std::map<PeerIndex, std::set<uint64_t>> of_peers;
  std::set<uint64_t> own;
  bool is_known = what.service.empty();
  for (ServiceIndex i = 0; i < services_.size(); ++i) {
    const Service& service = services_[i];
    if (!concerns(what, service)) continue;
    is_known = is_known || !service.instances.empty();
    const uint64_t name = what.kind == Kind::kAll ? cache::name_hash(service.name, "") : what.name_in_book();
    if (!service.agents.empty()) own.insert(name);
    for (const Instance& instance : service.instances) {
      if (!instance.local) of_peers[instance.peer].insert(name);
    }
  }
  const auto reject = [&](Code code, std::string_view rule, std::string text, std::string_view hint) {
    answer_purge(caller, rejector_.reject(code, kCacheService, "cache", rule, std::move(text), hint), now, out);
  };
  if (!is_known) {
    return reject(Code::kNoRoute, "unknown_service", "no instance of service '" + what.service + "' is known",
                  "add it to this host's agents, or to the services of a peer");
  }
  if (!orders_.takes_more(now)) {
    return reject(Code::kOverloaded, "purge_orders", "more purges are ordered than can be told to all",
                  "ask again after some 100 ms; a tag for many replies is one purge");
  }
  counters_.add(Counter::kCachePurgeOrders);
  const ClientId client = caller.call != nullptr ? caller.call->path.client : 0;
  out.push_back(NotePurge{.ticket = caller.ticket, .client = client, .text = caller.text});
  what.kind == Kind::kAll ? purges_.purge_all() : purges_.purge(what.name_in_book());
  const uint64_t order = orders_.open(until);
  purge_callers_.emplace(order, std::move(caller));
  for_each_part(own, [&](const std::vector<uint64_t>& names) {
    orders_.wait_for_own(order);
    inbound_.purge_for(order, names, now, out);
  });
  for (const auto& [peer, names] : of_peers) {
    for_each_part(
        names, [&, peer = peer](std::vector<uint64_t>&& part) { orders_.ask(order, peer, std::move(part), now, out); });
  }
  settle_purges(now, out);
}

void Outbound::on(const PurgeConfirmed& event, Instant now, Actions& out) {
  orders_.on(event);
  settle_purges(now, out);
}

void Outbound::on_own_purged(uint64_t order, Instant now, Actions& out) {
  orders_.on_own_purged(order);
  settle_purges(now, out);
}

void Outbound::settle_purges(Instant now, Actions& out) {
  if (orders_.empty()) return;
  for (const PurgeOrders::Ended& ended : orders_.take_ended()) {
    const auto found = purge_callers_.find(ended.order);
    PurgeCaller caller = std::move(found->second);
    purge_callers_.erase(found);
    Outcome outcome = outcome_of(caller, ended);
    answer_purge(caller, std::move(outcome), now, out);
  }
}

Outcome Outbound::outcome_of(const PurgeCaller& caller, const PurgeOrders::Ended& ended) const {
  std::vector<std::string> confirmed;
  std::vector<std::string> not_confirmed;
  std::string doubts;
  for (const PurgeOrders::Answer& answer : ended.answers) {
    const bool is_own = answer.peer == PurgeOrders::kOwn;
    const std::string name =
        is_own ? rejector_.hop() : config_.peers[answer.peer].host + "/" + config_.peers[answer.peer].sidecar;
    (answer.doubt == Doubt::kNone ? confirmed : not_confirmed).push_back(name);
    if (answer.doubt == Doubt::kNone) continue;
    doubts += (doubts.empty() ? "" : ", ") + name + " (" + std::string(reason(answer.doubt)) + ")";
  }
  if (not_confirmed.empty()) {
    const nlohmann::ordered_json body = {{"status", "success"}, {"purged", {caller.text}}, {"confirmed_by", confirmed}};
    return {.payload = {Slice::copy_of(body.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)), {}}};
  }
  Outcome outcome = rejector_.reject(Code::kOutcomeUnknown, kCacheService, "cache", "purge_not_confirmed",
                                     caller.text + " is purged here, and not confirmed by " + doubts,
                                     "they may still give it to agents beside them: purge again when they answer");
  outcome.error->not_confirmed = std::move(not_confirmed);
  return outcome;
}

void Outbound::answer_purge(PurgeCaller& caller, Outcome&& outcome, Instant now, Actions& out) {
  if (outcome.code == Code::kOutcomeUnknown) counters_.add(Counter::kCacheUnconfirmed);
  if (caller.call != nullptr) return finish(*caller.call, std::move(outcome), {}, now, out);
  out.push_back(PurgeDone{caller.ticket, std::move(outcome)});
}

}  // namespace mesh::proxy
