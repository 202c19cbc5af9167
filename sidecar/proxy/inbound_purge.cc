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
  const bool is_all = terms.invalidates->empty() || !request_reader_.read_tags(asked, *terms.invalidates, *names);
  if (is_all) *names = {cache::name_hash(service, "")};
  return names;
}

// Where there is no memory that outlives the process it cannot be known whether a write was under way, so of what is on
// disk nothing is trusted that can be written.
void Inbound::begin(uint64_t purge_position, bool has_disk, Instant now, Actions& out) {
  rounds_.begin(purge_position, now);
  has_disk_ = has_disk;
  const bool was_writing = self_ && self_->writing() > 0;
  const bool is_known = self_ && self_->known();
  if (self_) self_->set_known(0);  // this memory has been here since
  std::vector<uint64_t> names;
  for (ServiceIndex i = 0; i < services_.size(); ++i) {
    const Service& service = services_[i];
    if (service.has_writes && !service.agents.empty()) names.push_back(cache::name_hash(service.name, ""));
  }
  if (was_writing) {
    for (const uint64_t name : names) purges_.purge(name);
    self_->forget_writing();
  }
  if (!names.empty() && (was_writing || !is_known)) erase_on_disk(names, out);
}

void Inbound::erase_on_disk(std::span<const uint64_t> names, Actions& out) {
  if (!has_disk_) return;
  erasures_.push_back({.ticket = ++last_erasure_, .round = 0, .names = {names.begin(), names.end()}});
  out.push_back(EraseReplies{last_erasure_, erasures_.back().names});
}

bool Inbound::is_being_erased(const cache::Names& names) const {
  return std::any_of(erasures_.begin(), erasures_.end(), [&](const Erasure& erasure) {
    return std::any_of(erasure.names.begin(), erasure.names.end(), [&](uint64_t name) {
      return name == names.service || name == names.method || name == names.key ||
             std::find(names.tags.begin(), names.tags.end(), name) != names.tags.end();
    });
  });
}

void Inbound::on(const RepliesErased& event, Instant now, Actions& out) {
  const auto erasure = std::find_if(erasures_.begin(), erasures_.end(),
                                    [&](const Erasure& each) { return each.ticket == event.ticket; });
  if (erasure == erasures_.end()) return;
  const bool is_ordered = std::any_of(
      held_.begin(), held_.end(), [&](const Held& held) { return held.round == erasure->round && held.is_order(); });
  if (!event.is_pending || !is_ordered) rounds_.on_erased(erasure->round);
  if (event.is_pending) {
    if (self_ && !std::exchange(erasure->is_noted, true)) self_->begin_writing(now);
  } else {
    if (erasure->is_noted) self_->end_writing();
    erasures_.erase(erasure);
  }
  release_ended(now, out);
}

// The round that tells of it; 0 if there is nothing to wait for.
uint64_t Inbound::make_wrong(const Call& call, const Outcome& outcome, Instant now, Actions& out) {
  const uint64_t round =
      is_untouched(outcome.code) ? 0 : purge(*call.wrongs, false, services_[call.service].is_on_disk, now, out);
  if (self_ && call.delivered_at != kNever) self_->end_writing();
  return round;
}

// For whoever asks again with the key of a call that ended: its round may not be over yet, or a process before may have
// died in it.
uint64_t Inbound::make_wrong_again(const InboundRequest& request, Code ended_with, Instant now, Actions& out) {
  const contract::Terms terms = services_.terms(request.service, request.method);
  const bool is_over = rounds_.is_quiet(now) && erasures_.empty();
  if (terms.invalidates == nullptr || is_untouched(ended_with) || is_over) return 0;
  return purge(*wrongs_of(request, terms), false, services_[request.service].is_on_disk, now, out);
}

uint64_t Inbound::purge(std::span<const uint64_t> names, bool is_relayed, bool erases, Instant now, Actions& out) {
  for (const uint64_t name : names) purges_.purge(name);
  const uint64_t round = rounds_.purge(names, is_relayed, erases && has_disk_, now, out);
  if (erases && has_disk_) {
    erase_on_disk(names, out);
    erasures_.back().round = round;
  }
  if (round != 0) counters_.add(Counter::kCachePurgeRounds);
  return round;
}

// Also if that is too late for whoever waits: a writer who is answered must read what it has written.
void Inbound::answer_after(uint64_t round, const Origin& origin, Outcome&& outcome, const wire::CalleeSpans& spans,
                           bool is_sensitive, Actions& out) {
  // It may have ended while a result was written down or read.
  if (!rounds_.is_open(round)) return answer(origin, std::move(outcome), spans, out, is_sensitive);
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

bool Inbound::is_erasing_for(uint64_t round) const {
  return std::any_of(erasures_.begin(), erasures_.end(), [round](const Erasure& each) { return each.round == round; });
}

// A writer has done what he has done, and what can be written the next process erases if it does not know. An order
// that is not on disk yet may be forgotten with this process, so nobody confirms it.
void Inbound::release_ended(Instant now, Actions& out) {
  ended_rounds_.clear();
  rounds_.take_ended(now, ended_rounds_);
  if (ended_rounds_.empty()) return;
  std::erase_if(held_, [&](Held& held) {
    if (std::find(ended_rounds_.begin(), ended_rounds_.end(), held.round) == ended_rounds_.end()) return false;
    if (!held.is_order() || !is_erasing_for(held.round)) release(held, out);
    return true;
  });
}

void Inbound::on(const LeaseAsked& event, Instant now, Actions& out) {
  rounds_.on(event, now, out);
  release_ended(now, out);
}

void Inbound::on(const PurgeAsked& event, Instant now, Actions& out) {
  const uint64_t round = purge(event.names, false, true, now, out);
  release_after(round, {.round = 0, .origin = {event.link, 0}, .token = event.token, .outcome = {}, .spans = {}}, out);
}

void Inbound::relay(const PeerPurged& event, Instant now, Actions& out) {
  const uint64_t round = purge(event.names, true, true, now, out);
  release_after(
      round, {.round = 0, .origin = {0, 0}, .peer = event.peer, .token = event.token, .outcome = {}, .spans = {}}, out);
}

void Inbound::forget_relays_of(PeerIndex peer) {
  std::erase_if(held_, [peer](const Held& held) { return held.is_relay() && held.peer == peer; });
}

void Inbound::purge_for(uint64_t order, std::span<const uint64_t> names, Instant now, Actions& out) {
  const uint64_t round = purge(names, false, true, now, out);
  release_after(round, {.round = 0, .origin = {0, 0}, .order = order, .outcome = {}, .spans = {}}, out);
}

void Inbound::on(const PurgeHeard& event, Instant now, Actions& out) {
  rounds_.on(event);
  release_ended(now, out);
}

}  // namespace mesh::proxy
