#include "sidecar/proxy/outbound.h"

#include <algorithm>
#include <utility>

namespace mesh::proxy {
namespace {

// The callee's own outcome for a passed deadline knows more than ours: leave it time to arrive.
Instant backstop(Instant deadline) { return deadline + milliseconds(limits::hop_margin_ms); }

// The agent has certainly not seen it. Others may have been executed, and failed behind that.
bool is_untouched(Code code) {
  return code == Code::kNotSent || code == Code::kOverloaded || code == Code::kDraining || code == Code::kNoRoute ||
         code == Code::kInvalid || code == Code::kUnauthenticated || code == Code::kDenied;
}

}  // namespace

Outbound::Outbound(const SidecarConfig& config, Services& services, Inbound& inbound, cache::Purges& purges,
                   cache::SharedTier* shared, Counters& counters, const Rejector& rejector)
    : config_(config),
      services_(services),
      inbound_(inbound),
      counters_(counters),
      rejector_(rejector),
      recorder_(rejector.hop(), config.peers.size(), services.size()),
      peers_(config.peers.size()),
      kept_(config.limits.cache_local_bytes, shared, services, purges),
      purges_(purges),
      leases_(services.views(), purges, shared),
      orders_(config.peers.size()) {
  if (shared != nullptr) flights_ = shared->flights();
}

void Outbound::on(AgentRequested&& event, Instant now, Actions& out) {
  counters_.add(Counter::kRequests);
  const uint64_t bytes = event.payload.body.size();
  Call call{.path = std::move(event.path),
            .idempotent = event.idempotent,
            .is_sensitive = event.is_sensitive,
            .hedge_after = milliseconds(event.key ? 0 : event.hedge_ms),
            .priority = event.priority,
            .lane = bytes > limits::bulk_body_bytes ? wire::Lane::kBulk : wire::Lane::kInteractive,
            .deadline = now + milliseconds(event.budget_ms),
            .linger = milliseconds(event.linger_ms),
            .linger_count = event.linger_count,
            .trace = begin_trace(1000 * event.budget_ms, now),
            .bytes = bytes,
            .method = std::string(event.method),
            .model = event.model,
            .key = std::move(event.key),
            .payload = {}};
  const auto reject = [&](Code code, std::string_view rule, std::string text, std::string_view hint) {
    finish(call, rejector_.reject(code, event.service, "admission", rule, std::move(text), hint), {}, now, out);
  };
  if (event.unreadable) {
    call.service = telemetry::Decision::kNoService;
    return finish(call, rejector_.reject(std::move(event.unreadable), "mesh_header"), {}, now, out);
  }
  const auto service = services_.find(event.service);
  call.service = service.value_or(telemetry::Decision::kNoService);
  if (draining_) {
    return reject(Code::kDraining, "draining", "this sidecar is shutting down", "ask again in a second");
  }
  if (service && services_[*service].is_cache) [[unlikely]]
    return take_purge(call, event, now, out);
  if (!service || services_[*service].instances.empty()) {
    return reject(Code::kNoRoute, "unknown_service",
                  "no instance of service '" + std::string(event.service) + "' is known",
                  "add it to this host's agents, or to the services of a peer");
  }
  if (event.dropped_frames > 0) {
    counters_.add(Counter::kOversizeBodies);
    return reject(Code::kTooLarge, "request_frames",
                  "the message has " + std::to_string(limits::frames_per_message_max + event.dropped_frames) +
                      " frames, a message may have " + std::to_string(limits::frames_per_message_max),
                  "put the parts into one frame");
  }
  if (event.dropped_bytes > 0 || bytes > event.max_bytes) {
    counters_.add(Counter::kOversizeBodies);
    return reject(Code::kTooLarge, "request_bytes",
                  "the body has " + std::to_string(bytes + event.dropped_bytes) + " bytes, the service takes " +
                      std::to_string(event.max_bytes),
                  "raise max_bytes in the contract of the service");
  }
  if (event.budget_ms <= 0) {
    return reject(Code::kDeadline, "deadline_passed", "the call came without any time left",
                  "give a budget_ms above 0");
  }
  if (event.keeping != nullptr) [[unlikely]] {
    if (event.keeping->cache != nullptr && !event.key && answer_from_cache(call, event, now, out)) return;
    if (event.keeping->cache != nullptr && event.key) call.trace.cache.miss = telemetry::CacheMiss::kKeyed;
    if (event.keeping->invalidates != nullptr) call.wrongs = wrongs_of(event);
  }
  admit(std::move(call), std::move(event.payload), now, out);
}

// To an instance, if one is there and there is room.
void Outbound::admit(Call&& call, Payload&& payload, Instant now, Actions& out) {
  const uint64_t bytes = call.bytes;
  const auto reject = [&](Code code, std::string_view rule, std::string text, std::string_view hint) {
    const std::string& service = services_[call.service].name;
    finish(call, rejector_.reject(code, service, "admission", rule, std::move(text), hint), {}, now, out);
  };
  if (held_bytes_ + bytes > config_.limits.process_queued_bytes) {
    return reject(Code::kOverloaded, "memory", "this sidecar holds as many bytes of open calls as it may",
                  "ask again after some 100 ms, or raise limits.process_queued_bytes");
  }
  services_[call.service].retries.on_call();
  const auto chosen = choose(call, now, call.trace.choices);
  if (!chosen) return finish(call, no_instance(call), {}, now, out);
  call.instance = *chosen;
  const Instance& instance = instance_of(call);
  if (is_full(instance, bytes)) {
    return reject(Code::kOverloaded, "target_full", "too many calls of this sidecar to the service are unanswered",
                  "ask again after some 100 ms, or raise limits.calls_per_target_max");
  }
  held_bytes_ += bytes;
  const Instant wake_at = backstop(call.deadline);
  const bool may_hedge = call.hedge_after > Duration{0};
  const uint64_t id = calls_.open(std::move(call), wake_at);
  send(id, std::move(payload), now, out);
  if (may_hedge) [[unlikely]]
    arm_hedge(id, now);
}

// To call.instance, which the caller has chosen.
void Outbound::send(uint64_t id, Payload&& payload, Instant now, Actions& out) {
  Call& call = *calls_.find(id);
  Service& service = services_[call.service];
  Instance& instance = service.instances[call.instance];
  call.tried |= uint32_t{1} << call.instance;
  if (call.model != nullptr) [[unlikely]] {
    standings_.chose(place_of(call));
    standings_.sent(place_of(call));
  }
  if (call.fetch != nullptr) [[unlikely]] {
    call.fetch->origin = call.instance;
    call.fetch->is_sent = true;
  }
  ++call.trace.attempts;
  call.trace.attempt_at = now;
  call.trace.left_at = kNever;
  call.trace.request_batch = {};
  call.trace.batch_wait_us = 0;
  ++instance.in_flight;
  instance.bytes_in_flight += call.bytes;
  call.is_kept = !call.is_hedge && (call.idempotent || call.key || service.instances.size() > 1) &&
                 call.trace.attempts < limits::attempts_max;
  if (call.is_kept) {
    payload.body = payload.body.compact();
    call.payload = payload;
  }
  if (instance.local) {
    calls_.set_deadline(id, backstop(call.deadline));
    wire::Delivery delivery{.attempt = call.trace.attempts, .is_sensitive = call.is_sensitive};
    if (call.key) delivery.key = call.key->key, delivery.caller = call.key->caller;
    inbound_.accept({.origin = {.link = 0, .call_id = id},
                     .service = call.service,
                     .method = call.method,
                     .deadline = call.deadline,
                     .priority = call.priority,
                     .delivery = &delivery,
                     .payload = std::move(payload)},
                    now, out);
    return;
  }
  if (!peers_[instance.peer].up[static_cast<size_t>(call.lane)]) {
    payload.body = payload.body.compact();
    calls_.set_deadline(id, std::min(call.deadline, now + milliseconds(limits::connect_wait_ms)));
  } else {
    calls_.set_deadline(id, call.deadline);
  }
  out.push_back(SendToPeer{.peer = instance.peer,
                           .lane = call.lane,
                           .call_id = id,
                           .service = service.name,
                           .method = call.method,
                           .deadline = call.deadline,
                           .queued_at = now,
                           // Never more than half of what is left.
                           .leave_by = now + std::min(call.linger, (call.deadline - now) / 2),
                           .linger_count = call.linger_count,
                           .priority = call.priority,
                           .attempt = call.trace.attempts,
                           .is_sensitive = call.is_sensitive,
                           .knowledge = knowledge_to_tell(call),
                           .key = call.key,
                           .payload = std::move(payload)});
}

bool Outbound::is_full(const Instance& instance, uint64_t bytes) const {
  return !instance.local && (instance.in_flight >= config_.limits.calls_per_target_max ||
                             instance.bytes_in_flight + bytes > config_.limits.queued_bytes_per_target);
}

void Outbound::leave_instance(const Call& call) {
  Instance& instance = services_[call.service].instances[call.instance];
  --instance.in_flight;
  instance.bytes_in_flight -= call.bytes;
  if (call.model != nullptr) [[unlikely]]
    standings_.ended(place_of(call), call.trace.attempt_at);
}

// Once more where that is right, else the one terminal result.
void Outbound::conclude(uint64_t id, Outcome&& outcome, ReplyCost cost, Instant now, Actions& out) {
  Call& call = *calls_.find(id);
  leave_instance(call);
  if (call.twin != 0 && leave_to_twin(id, outcome, now, out)) [[unlikely]]
    return;
  if (outcome.code != Code::kOk && try_again(id, outcome.code, now, out)) return;
  if (call.may_be_executed) [[unlikely]]
    admit_ignorance(call, outcome);
  held_bytes_ -= call.bytes;
  if (call.fetch != nullptr) [[unlikely]] {
    Call fetched = calls_.close(id);  // what follows may open others, and the table move
    return finish(fetched, std::move(outcome), cost, now, out);
  }
  finish(call, std::move(outcome), cost, now, out);
  call.payload = Payload();
  calls_.erase(id);
}

// The one terminal result of a call, written down and given.
void Outbound::finish(Call& call, Outcome&& outcome, ReplyCost cost, Instant now, Actions& out) {
  if (call.path.link != 0) [[unlikely]]
    return reply_to_peer(call, std::move(outcome), cost.spans, now, out);
  if (call.fetch == nullptr) counters_.results[static_cast<size_t>(outcome.code)]++;
  if (outcome.cache != nullptr && call.trace.cache.verdict == telemetry::CacheVerdict::kNone) [[unlikely]]
    call.trace.cache = *outcome.cache;  // it was kept beside its agent
  std::optional<PeerIndex> peer;
  if (call.trace.attempts > 0 && !instance_of(call).local) peer = instance_of(call).peer;
  if (call.fetch == nullptr || !call.fetch->is_home)
    recorder_.record({.trace = call.trace,
                      .path = call.path,
                      .service = call.service,
                      .method = call.method,
                      .priority = call.priority,
                      .lane = call.lane,
                      .request_bytes = call.bytes,
                      .outcome = outcome,
                      .peer = peer,
                      .spans = cost.spans,
                      .decompress_us = cost.decompress_us,
                      .batch = cost.batch,
                      .is_fetch = call.fetch != nullptr},
                     now);
  if (call.wrongs != nullptr && !is_untouched(outcome.code)) [[unlikely]]
    make_wrong(*call.wrongs);
  if (call.model != nullptr && cost.spans != nullptr) [[unlikely]]
    note_model_answer(call, *cost.spans, now);
  if (call.fetch != nullptr) [[unlikely]] {
    call.fetch->origin = call.instance;  // of two that were asked
    if (cost.spans != nullptr) note_cost(call, *cost.spans, now);
    return land(call.fetch, std::move(outcome), cost.spans, now, out);
  }
  if (call.trace.cache.verdict != telemetry::CacheVerdict::kNone) [[unlikely]]
    outcome.cache = std::make_unique<telemetry::CacheTrace>(call.trace.cache);
  out.emplace_back(std::in_place_type<ReplyToAgent>, std::move(call.path), std::move(outcome));
}

void Outbound::note(const CallsLeft& left_calls, Instant now) {
  for (const CallsLeft::Call& left : left_calls.calls) {
    Call* call = calls_.find(left.call_id);
    if (call == nullptr) continue;
    telemetry::Trace& trace = call->trace;
    trace.left_at = now;
    trace.batch_wait_us = left.batch_wait_us;
    trace.sent_budget_us = left.budget_us;
    trace.request_batch = left_calls.batch;
  }
}

void Outbound::on(PeerReplied&& event, Instant now, Actions& out) {
  Call* call = calls_.find(event.call_id);
  // A peer may only answer what was asked of it.
  if (call == nullptr || instance_of(*call).local || instance_of(*call).peer != event.peer) {
    counters_.add(Counter::kLateReplies);
    return;
  }
  if (event.standing != nullptr && call->model != nullptr) [[unlikely]]
    standings_.heard(place_of(*call), *event.standing, now);
  conclude(event.call_id, std::move(event.outcome), {event.spans, event.decompress_us, event.batch}, now, out);
}

std::optional<wire::Lane> Outbound::lane_of(uint64_t call_id) {
  const Call* call = calls_.find(call_id);
  if (call == nullptr || instance_of(*call).local) return std::nullopt;
  return call->lane;
}

void Outbound::on_local_outcome(Inbound::LocalOutcome&& local, Instant now, Actions& out) {
  const Call* call = calls_.find(local.call_id);
  if (call == nullptr || !instance_of(*call).local) {
    counters_.add(Counter::kLateReplies);
    return;
  }
  conclude(local.call_id, std::move(local.outcome), {&local.spans, 0, nullptr}, now, out);
}

void Outbound::on(const ClientClosed& event, Instant now, Actions& out) {
  std::vector<uint64_t> abandoned;
  calls_.for_each([&](uint64_t id, const Call& call) {
    if (call.path.client == event.client && call.path.link == 0 && call.fetch == nullptr) abandoned.push_back(id);
  });
  drop_waiting([&](const ReturnPath& path) { return path.client == event.client && path.link == 0; });
  for (const uint64_t id : abandoned) {
    counters_.add(Counter::kCallerGone);
    if (const uint64_t twin = calls_.find(id)->twin; twin != 0) drop(twin, now, out);
    drop(id, now, out);
  }
}

// Nobody waits for it any more.
void Outbound::drop(uint64_t id, Instant now, Actions& out) {
  const Call call = calls_.close(id);
  leave_instance(call);
  held_bytes_ -= call.bytes;
  if (call.wrongs != nullptr) [[unlikely]]
    make_wrong(*call.wrongs);  // it may still be executed
  const Instance& instance = instance_of(call);
  if (instance.local) {
    inbound_.cancel({.link = 0, .call_id = id}, now, out);
  } else {
    out.push_back(CancelAtPeer{.peer = instance.peer, .lane = call.lane, .call_id = id});
  }
}

void Outbound::expire(uint64_t id, Instant now, Actions& out) {
  const Call& call = *calls_.find(id);
  if (is_hedge_due(call, now)) [[unlikely]]
    return hedge(id, now, out);
  const Instance instance = instance_of(call);
  const std::string& service = services_[call.service].name;
  if (instance.local) {
    inbound_.cancel({.link = 0, .call_id = id}, now, out);
    conclude(id,
             rejector_.reject(Code::kDeadline, service, "agent", "deadline_passed", "no answer came in time",
                              "it may still be executed; raise budget_ms if it needs longer"),
             now, out);
    return;
  }
  const bool up = peers_[instance.peer].up[static_cast<size_t>(call.lane)];
  const std::string name = config_.peers[instance.peer].host + "/" + config_.peers[instance.peer].sidecar;
  out.push_back(CancelAtPeer{.peer = instance.peer, .lane = call.lane, .call_id = id});
  if (!up) {
    conclude(id,
             rejector_.reject(Code::kNotSent, service, "link", "peer_unreachable",
                              "sidecar " + name + " cannot be reached at " + config_.peers[instance.peer].endpoint.text,
                              "is it running, and is its address in this host's configuration right?"),
             now, out);
  } else {
    conclude(id,
             rejector_.reject(Code::kDeadline, service, "link", "deadline_passed",
                              "no answer came from " + name + " in time",
                              "it may still be executed; raise budget_ms if it needs longer"),
             now, out);
  }
}

void Outbound::on_time(Instant now, Actions& out) {
  due_.clear();
  calls_.expire(now, due_);
  for (const uint64_t id : due_) {
    if (calls_.find(id) != nullptr) expire(id, now, out);
  }
  due_.clear();
  waiting_.expire(now, due_);
  for (const uint64_t id : due_) {
    if (waiting_.find(id) != nullptr) expire_waiting(id, now, out);
  }
  if (!validating_.empty()) [[unlikely]]
    go_on_validating(now, out);
  if (!loading_.empty()) [[unlikely]]
    give_up_disk(now, out);
  if (look_at_ <= now) [[unlikely]]
    look_for_flights(now, out);
  if (extend_at_ <= now) [[unlikely]]
    extend_flights(now);
  if (renew_leases_at_ <= now) [[unlikely]]
    renew_leases_of_fetches(now, out);
  if (!orders_.empty()) [[unlikely]] {
    orders_.on_time(now, out);
    settle_purges(now, out);
  }
}

}  // namespace mesh::proxy
