// What calls make wrong of what is kept, here and wherever replies of this sidecar's agents are kept.
//
// It is told to all who hold a lease before whoever made it wrong has his answer: from then on nobody is given what was
// right before.

#include <algorithm>
#include <utility>

#include "sidecar/proxy/inbound.h"

namespace mesh::proxy {
namespace {

// The agent has certainly not seen it.
bool is_untouched(Code code) { return code == Code::kNotSent || code == Code::kOverloaded || code == Code::kDraining; }

}  // namespace

// Where a field is missing that a tag names, all that is kept of the service is taken for wrong.
std::unique_ptr<std::vector<uint64_t>> Inbound::wrongs_of(const InboundRequest& request, const contract::Terms& terms) {
  auto names = std::make_unique<std::vector<uint64_t>>();
  const std::string& service = services_[request.service].name;
  const cache::Asked asked{.service = service,
                           .method = request.method,
                           .caller = {},
                           .body = request.payload.body.view(),
                           .part_sizes = request.payload.part_sizes};
  if (!request_reader_.read_tags(asked, *terms.invalidates, *names)) *names = {cache::name_hash(service, "")};
  return names;
}

// The round that tells of it; 0 if there is nothing to wait for.
uint64_t Inbound::make_wrong(const Call& call, const Outcome& outcome, Instant now, Actions& out) {
  return is_untouched(outcome.code) ? 0 : purge(*call.wrongs, false, now, out);
}

uint64_t Inbound::purge(std::span<const uint64_t> names, bool is_relayed, Instant now, Actions& out) {
  for (const uint64_t name : names) purges_.purge(name);
  const uint64_t round = rounds_.purge(names, is_relayed, now, out);
  if (round != 0) counters_.add(Counter::kCachePurgeRounds);
  return round;
}

// Also if that is too late for whoever waits: a writer who is answered must read what it has written.
void Inbound::answer_after(uint64_t round, const Origin& origin, Outcome&& outcome, const wire::CalleeSpans& spans,
                           bool is_sensitive, Actions& out) {
  if (round == 0) return answer(origin, std::move(outcome), spans, out, is_sensitive);
  held_.push_back(
      {.round = round, .origin = origin, .outcome = std::move(outcome), .spans = spans, .is_sensitive = is_sensitive});
}

void Inbound::release(Held& held, Actions& out) {
  if (held.order != 0) {
    ended_orders_.push_back(held.order);
  } else if (held.origin.call_id != 0) {
    answer(held.origin, std::move(held.outcome), held.spans, out, held.is_sensitive);
  } else if (held.origin.link != 0) {
    out.push_back(ConfirmPurge{held.origin.link, held.token});
  } else {
    out.push_back(HearPurge{held.peer, held.token});
  }
}

void Inbound::release_after(uint64_t round, Held&& held, Actions& out) {
  held.round = round;
  if (round == 0) return release(held, out);
  held_.push_back(std::move(held));
}

void Inbound::release_ended(Instant now, Actions& out) {
  ended_rounds_.clear();
  rounds_.take_ended(now, ended_rounds_);
  if (ended_rounds_.empty()) return;
  std::erase_if(held_, [&](Held& held) {
    if (std::find(ended_rounds_.begin(), ended_rounds_.end(), held.round) == ended_rounds_.end()) return false;
    release(held, out);
    return true;
  });
}

void Inbound::on(const LeaseAsked& event, Instant now, Actions& out) {
  rounds_.on(event, now, out);
  release_ended(now, out);
}

void Inbound::on(const PurgeAsked& event, Instant now, Actions& out) {
  const uint64_t round = purge(event.names, false, now, out);
  release_after(round, {.round = 0, .origin = {event.link, 0}, .token = event.token, .outcome = {}, .spans = {}}, out);
}

void Inbound::relay(const PeerPurged& event, Instant now, Actions& out) {
  const uint64_t round = purge(event.names, true, now, out);
  release_after(
      round, {.round = 0, .origin = {0, 0}, .peer = event.peer, .token = event.token, .outcome = {}, .spans = {}}, out);
}

void Inbound::purge_for(uint64_t order, std::span<const uint64_t> names, Instant now, Actions& out) {
  const uint64_t round = purge(names, false, now, out);
  release_after(round, {.round = 0, .origin = {0, 0}, .order = order, .outcome = {}, .spans = {}}, out);
}

void Inbound::on(const PurgeHeard& event, Instant now, Actions& out) {
  rounds_.on(event);
  release_ended(now, out);
}

}  // namespace mesh::proxy
