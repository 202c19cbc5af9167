#include "sidecar/proxy/inbound.h"

#include <algorithm>
#include <string>

namespace mesh::proxy {

Inbound::Inbound(const SidecarConfig& config, Services& services, cache::Purges& purges, cache::SharedTier* shared,
                 Counters& counters, const Rejector& rejector)
    : config_(config),
      services_(services),
      counters_(counters),
      rejector_(rejector),
      purges_(purges),
      standings_(config, services, models_),
      agents_(config.agents.size()) {
  for (StandingIndex i = 0; i < standings_.size(); ++i) {
    for (const AgentIndex agent : services[standings_.service(i)].agents) agents_[agent].is_timed = true;
  }
  if (shared != nullptr) self_ = shared->witness(cache::name_hash(config.host, config.sidecar));
}

void Inbound::on(PeerRequested&& event, Instant now, Actions& out) {
  counters_.add(Counter::kPeerRequests);
  const Origin origin{event.link, event.call_id};
  if (event.delivery != nullptr && event.delivery->attempt > 1) counters_.add(Counter::kRetriesReceived);
  if (event.needs_unknown) {
    return answer(origin,
                  rejector_.reject(Code::kInvalid, event.service, "admission", "unknown_critical",
                                   "the request needs a feature that this sidecar does not have",
                                   "upgrade the sidecar of the service first"),
                  arrived(now, event.decompress_us), out);
  }
  const auto service = services_.find(event.service);
  if (!service || !services_[*service].has_local()) {
    answer(origin,
           rejector_.reject(Code::kNoRoute, event.service, "admission", "service_not_here",
                            "no agent of this sidecar serves '" + std::string(event.service) + "'",
                            "the configurations of the two hosts disagree: compare their peers and agents"),
           arrived(now, event.decompress_us), out);
    return;
  }
  accept({.origin = origin,
          .service = *service,
          .method = event.method,
          .deadline = now + event.budget,
          .priority = event.priority,
          .decompress_us = event.decompress_us,
          .delivery = event.delivery,
          .payload = std::move(event.payload)},
         now, out);
}

AgentIndex Inbound::pick_agent(const Service& service) const {
  const auto load = [this](AgentIndex index) {
    const Agent& agent = agents_[index];
    return std::make_tuple(!agent.connected, agent.working + agent.queue.size());
  };
  return *std::min_element(service.agents.begin(), service.agents.end(),
                           [&](AgentIndex a, AgentIndex b) { return load(a) < load(b); });
}

void Inbound::accept(InboundRequest&& request, Instant now, Actions& out) {
  const Service& service = services_[request.service];
  const auto reject = [&](Code code, std::string_view rule, std::string text, std::string_view hint) {
    answer(request.origin, rejector_.reject(code, service.name, "admission", rule, std::move(text), hint),
           arrived(now, request.decompress_us), out);
  };
  if (draining_) {
    return reject(Code::kDraining, "draining", "this sidecar is shutting down",
                  "ask again: another instance or its successor answers");
  }
  if (request.deadline <= now) {
    return reject(Code::kDeadline, "deadline_passed", "the call's time was used up before it arrived",
                  "raise budget_ms, or find out where the time went");
  }
  const contract::Terms terms = services_.terms(request.service, request.method);
  const uint64_t bytes = request.payload.body.size();
  if (bytes > terms.max_bytes) {
    return reject(
        Code::kTooLarge, "request_bytes",
        "the body has " + std::to_string(bytes) + " bytes, the service takes " + std::to_string(terms.max_bytes),
        "raise max_bytes in the contract of the service on both hosts");
  }
  if (service.is_echo) {
    return answer(request.origin, {.code = Code::kOk, .error = nullptr, .payload = std::move(request.payload)},
                  arrived(now, request.decompress_us), out);
  }
  const bool has_key = request.delivery != nullptr && !request.delivery->key.empty();
  Asked asked;
  if (has_key) [[unlikely]] {
    asked = asked_of(request, terms);
    if (answer_known(request, asked, now, out)) return;
    if (terms.durable && !has_records_) {
      return reject(Code::kStorage, "no_store", "results of this method are to be kept on disk, and there is no store",
                    "see the sidecar's log for why its data_dir cannot be used");
    }
  }
  const AgentIndex index = pick_agent(service);
  Agent& agent = agents_[index];
  const AgentConfig& agent_config = config_.agents[index];
  if (agent.working + agent.queue.size() + agent.intending >= config_.limits.calls_per_target_max ||
      agent.queued_bytes + bytes > config_.limits.queued_bytes_per_target) {
    return reject(Code::kOverloaded, "queue_full", "the queue in front of agent '" + agent_config.name + "' is full",
                  "ask again after some 100 ms, ask less often, or run another instance");
  }
  if (queued_bytes_ + bytes > config_.limits.process_queued_bytes) {
    return reject(Code::kOverloaded, "memory", "this sidecar holds as many queued bytes as it may",
                  "ask again after some 100 ms, or raise limits.process_queued_bytes");
  }
  Call call{.origin = request.origin,
            .service = request.service,
            .agent = index,
            .priority = request.priority,
            .deadline = request.deadline,
            .connect_by = std::min(request.deadline, now + milliseconds(limits::connect_wait_ms)),
            .accepted_at = now,
            .decompress_us = request.decompress_us,
            .max_bytes = terms.max_bytes,
            .bytes = bytes,
            .is_sensitive = terms.sensitive || (request.delivery != nullptr && request.delivery->is_sensitive),
            .keyed = nullptr,
            .wrongs = nullptr,
            .payload = std::move(request.payload)};
  if (has_key) [[unlikely]] {
    call.keyed = std::make_unique<Keyed>(Keyed{.key = asked.key,
                                               .payload = asked.payload,
                                               .is_durable = terms.durable,
                                               .give_up_at = kNever,
                                               .waiters = {{request.origin, now}},
                                               .outcome = {}});
  }
  if (terms.invalidates != nullptr) [[unlikely]]
    call.wrongs = wrongs_of(request, terms);
  if (terms.model != nullptr) [[unlikely]] {
    call.standing = standings_.find(request.service, terms.model->name);
    if (!config_.arbiter_path.empty()) call.model = models_.intern(*terms.model);
  }
  ++live_;
  queued_bytes_ += bytes;
  const Instant wake_at = agent.connected ? call.deadline : call.connect_by;
  const uint64_t id = calls_.open(std::move(call), wake_at);
  if (has_key) [[unlikely]]
    return intend(id, now, out);
  admit(id, now, out);
}

// To the agent, or into the queue in front of it.
void Inbound::admit(uint64_t id, Instant now, Actions& out) {
  Call& call = *calls_.find(id);
  Agent& agent = agents_[call.agent];
  if (call.model != kNoModel) [[unlikely]] {
    call.has_model = models_.use(call.model, id, call.priority, out);
    if (!call.has_model) counters_.add(Counter::kModelWaits);
    standings_.settle(now, out);
  }
  if (takes_more(call.agent) && agent.queue.empty() && !lacks_model(call)) {
    deliver(id, call, now, out);
    return;
  }
  call.payload.body = call.payload.body.compact();
  agent.queue.emplace(call.priority, call.deadline, id);
  agent.queued_bytes += call.bytes;
}

void Inbound::deliver(uint64_t id, Call& call, Instant now, Actions& out) {
  Agent& agent = agents_[call.agent];
  call.state = State::kDelivered;
  call.delivered_at = now;
  if (call.standing != kNoStanding) [[unlikely]]
    call.was_loaded = standings_.is_loaded(call.standing);
  if (call.wrongs != nullptr && self_) [[unlikely]]
    self_->begin_writing(call.deadline);
  ++agent.working;
  if (!config_.agents[call.agent].correlate) agent.sole = id;
  queued_bytes_ -= call.bytes;
  counters_.add(Counter::kDelivered);
  out.emplace_back(std::in_place_type<DeliverToAgent>, call.agent, id, std::move(call.payload));
}

void Inbound::unqueue(uint64_t id, Call& call) {
  Agent& agent = agents_[call.agent];
  agent.queue.erase({call.priority, call.deadline, id});
  agent.queued_bytes -= call.bytes;
}

bool Inbound::takes_more(AgentIndex index) const {
  const Agent& agent = agents_[index];
  return agent.connected && !agent.congested && agent.working < config_.agents[index].in_flight;
}

void Inbound::pump(AgentIndex index, Instant now, Actions& out) {
  Agent& agent = agents_[index];
  // Who waits for the memory of a model lets others pass.
  for (auto next = agent.queue.begin(); takes_more(index) && next != agent.queue.end();) {
    const uint64_t id = std::get<2>(*next++);
    Call& call = *calls_.find(id);
    if (call.deadline <= now) {
      expire(id, now, out);
    } else if (!lacks_model(call)) {
      unqueue(id, call);
      deliver(id, call, now, out);
    }
  }
}

void Inbound::answer(const Origin& origin, Outcome&& outcome, const wire::CalleeSpans& spans, Actions& out,
                     bool is_sensitive, StandingIndex standing) {
  if (origin.link == 0) {
    local_outcomes_.push_back({origin.call_id, std::move(outcome), spans});
  } else {
    out.emplace_back(std::in_place_type<SendReply>, origin.link, origin.call_id, std::move(outcome), spans,
                     is_sensitive, standing);
  }
}

wire::CalleeSpans Inbound::arrived(Instant now, uint32_t decompress_us) {
  return {.received_us = static_cast<uint64_t>(to_us(now.time_since_epoch())) - decompress_us,
          .decompress_us = decompress_us};
}

wire::CalleeSpans Inbound::spans_of(const Call& call, Instant now) {
  const auto spent_us = [](Instant from, Instant to) {
    return static_cast<uint32_t>(to_us(to - from));  // no call is open for an hour
  };
  const bool delivered = call.delivered_at != kNever;
  return {.received_us = static_cast<uint64_t>(to_us(call.accepted_at.time_since_epoch())) - call.decompress_us,
          .decompress_us = call.decompress_us,
          .queue_us = spent_us(call.accepted_at, delivered ? call.delivered_at : now),
          .agent_us = delivered ? spent_us(call.delivered_at, now) : wire::CalleeSpans::kAgentNotReached};
}

// Ends a queued or delivered call; the agent's slot is the caller's affair.
void Inbound::finish(uint64_t id, Outcome&& outcome, Instant now, Actions& out) {
  if (calls_.find(id)->keyed) return end_keyed(id, std::move(outcome), now, out);
  Call& call = *calls_.find(id);
  --live_;
  if (call.state == State::kQueued) queued_bytes_ -= call.bytes;
  if (call.wrongs != nullptr) [[unlikely]] {
    const uint64_t round = make_wrong(call, outcome, now, out);
    const wire::CalleeSpans spans = spans_of(call, now);
    answer_after(round, call.origin, std::move(outcome), spans, call.is_sensitive, out);
  } else {
    answer(call.origin, std::move(outcome), spans_of(call, now), out, call.is_sensitive, call.standing);
  }
  leave_model(id, call, now, out);
  call.payload = Payload();
  calls_.erase(id);
}

void Inbound::on(AgentReplied&& event, Instant now, Actions& out) {
  Agent& agent = agents_[event.agent];
  const uint64_t id = config_.agents[event.agent].correlate ? event.call_id : agent.sole;
  Call* call = calls_.find(id);
  const bool has_it = call != nullptr && call->agent == event.agent &&
                      (call->state == State::kDelivered || call->state == State::kAbandoned);
  if (!has_it) {
    counters_.add(Counter::kLateReplies);
    return;
  }
  --agent.working;
  agent.sole = 0;
  call->was_answered = true;
  if (agent.is_timed) [[unlikely]]
    note_answer(*call, now);
  if (call->state == State::kAbandoned && !call->keyed) {
    counters_.add(Counter::kLateReplies);
    if (call->wrongs != nullptr) make_wrong(*call, {}, now, out);  // it may have been executed only now
    close(id, now, out);
  } else if (event.dropped_bytes > 0 || event.payload.body.size() > call->max_bytes) {
    counters_.add(Counter::kOversizeBodies);
    const uint64_t bytes = event.payload.body.size() + event.dropped_bytes;
    finish(id,
           rejector_.reject(Code::kTooLarge, services_[call->service].name, "agent", "reply_bytes",
                            "the agent's reply has " + std::to_string(bytes) + " bytes, the service may give " +
                                std::to_string(call->max_bytes),
                            "raise max_bytes in the contract of the service; the agent has done the work"),
           now, out);
  } else {
    finish(id, Outcome{.code = Code::kOk, .error = nullptr, .payload = std::move(event.payload)}, now, out);
  }
  pump(event.agent, now, out);
}

void Inbound::on(const PeerCancelled& event, Instant now, Actions& out) {
  cancel({event.link, event.call_id}, now, out);
}

void Inbound::cancel(const Origin& origin, Instant now, Actions& out) {
  std::vector<uint64_t> cancelled;
  calls_.for_each([&](uint64_t id, const Call& call) {
    if (call.keyed || call.state == State::kAbandoned) return;
    if (call.origin.link == origin.link && call.origin.call_id == origin.call_id) cancelled.push_back(id);
  });
  for (const uint64_t id : cancelled) abandon(id, now, out);
  drop_waiters(origin.link, origin.call_id, now, out);
}

void Inbound::on(const LinkClosed& event, Instant now, Actions& out) {
  std::vector<uint64_t> orphans;
  calls_.for_each([&](uint64_t id, const Call& call) {
    if (!call.keyed && call.state != State::kAbandoned && call.origin.link == event.link) orphans.push_back(id);
  });
  for (const uint64_t id : orphans) abandon(id, now, out);
  drop_waiters(event.link, std::nullopt, now, out);
}

// What has a key is waited for: its result is still worth something. And what makes replies wrong does so when it is
// executed, which may be late.
bool Inbound::frees_slot_at_deadline(const Call& call) const {
  const AgentConfig& agent = config_.agents[call.agent];
  return agent.correlate && agent.socket != AgentSocket::kRep && !call.keyed && !call.wrongs;
}

// Nobody waits for it any more. A serial agent that has it stays busy until it replies: the next request would only
// queue up inside it, where it can neither be ordered nor taken back.
void Inbound::abandon(uint64_t id, Instant now, Actions& out) {
  Call& call = *calls_.find(id);
  const AgentIndex index = call.agent;
  Agent& agent = agents_[index];
  --live_;
  if (call.state == State::kQueued) {
    unqueue(id, call);
    queued_bytes_ -= call.bytes;
    close(id, now, out);
    return;
  }
  if (frees_slot_at_deadline(call)) {
    --agent.working;
    close(id, now, out);
    pump(index, now, out);
    return;
  }
  call.state = State::kAbandoned;
  call.payload = Payload();
  calls_.set_deadline(id, now + milliseconds(limits::agent_abandon_ms));
  // Without ids its late reply would be taken for the next one's.
  if (!config_.agents[index].correlate) replace_connection(index, out);
}

void Inbound::replace_connection(AgentIndex index, Actions& out) {
  out.push_back(ReplaceAgentConnection{.agent = index});
}

void Inbound::expire(uint64_t id, Instant now, Actions& out) {
  const Call& call = *calls_.find(id);
  if (call.keyed) return expire_keyed(id, now, out);
  if (call.state == State::kAbandoned) {
    replace_connection(call.agent, out);  // AgentLost follows and frees the slot
    return;
  }
  Outcome outcome = late_outcome(call, now);
  const Origin origin = call.origin;
  const wire::CalleeSpans spans = spans_of(call, now);
  abandon(id, now, out);
  answer(origin, std::move(outcome), spans, out);
}

void Inbound::on_time(Instant now, Actions& out) {
  due_.clear();
  calls_.expire(now, due_);
  for (const uint64_t id : due_) {
    if (calls_.find(id) != nullptr) expire(id, now, out);
  }
  if (!rounds_.empty()) [[unlikely]]
    release_ended(now, out);
  if (now >= keyed_calls_.next_deadline()) forget_old_keys(now, out);
  if (models_.size() > 0) [[unlikely]] {
    models_.on_time(now, out);
    standings_.settle(now, out);
    standings_.on_time(now, out);
  }
}

}  // namespace mesh::proxy
