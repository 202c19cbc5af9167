// Calls with an idempotency key: executed once, however often they are asked for.
//
// Such a call goes on when nobody waits for it any more, because somebody may ask again. Of a durable method it is
// written down before the agent gets it that it is going to be executed, and before anybody hears of it how it ended:
// whatever dies in between, it is known that nobody knows.

#include <algorithm>
#include <utility>

#include "sidecar/proxy/inbound.h"

namespace mesh::proxy {
namespace {

std::string_view bytes_of(const std::vector<uint32_t>& numbers) {
  return {reinterpret_cast<const char*>(numbers.data()), numbers.size() * sizeof(uint32_t)};
}

// The agent has not seen it, and whoever says so knows it.
bool is_untouched(Code code) { return code == Code::kNotSent; }

}  // namespace

// Two requests are the same if their bytes are. Where the body holds the key, an agent that asks again has written some
// fields anew: then they are the same if they say the same without these.
Inbound::Asked Inbound::asked_of(const InboundRequest& request, const contract::Terms& terms) {
  const wire::Delivery& delivery = *request.delivery;
  const Payload& payload = request.payload;
  Asked asked{.key = wire::digest_of({delivery.caller, services_[request.service].name, delivery.key}), .payload = {}};
  const bool is_in_body = terms.idempotency_field != nullptr && payload.part_sizes.empty() &&
                          method_reader_.read_key(payload.body.view(), *terms.idempotency_field) == delivery.key;
  asked.payload = is_in_body ? payload_of_any_attempt(request)
                             : wire::digest_of({request.method, payload.body.text(), bytes_of(payload.part_sizes)});
  return asked;
}

wire::Digest Inbound::payload_of_any_attempt(const InboundRequest& request) {
  static const contract::CacheTerms without_fresh_fields;
  const ByteView body = request.payload.body.view();
  if (body.size() <= limits::canonical_body_bytes) {
    const cache::Request read = request_reader_.read(
        {.service = {}, .method = request.method, .caller = {}, .body = body, .part_sizes = {}}, without_fresh_fields);
    if (!read.is_by_bytes) return wire::digest_of({"says", read.key.text.text()});
  }
  // As it is written, but for these fields.
  std::vector<std::string_view> pieces = {"is written", request.method};
  if (!method_reader_.leave_out(body, contract::kFreshFields, pieces)) pieces = {request.method, as_text(body)};
  return wire::digest_of(pieces);
}

void Inbound::remember(const wire::Digest& key, const wire::KeptRecord& head, Duration age, uint64_t bytes) {
  found_.push_back({key, head, age, bytes});
}

// The oldest first, as they ended: what is too many goes in that order.
void Inbound::use_records(Instant now, Actions& out) {
  using Kept = routing::KeyedCalls::Kept;
  has_records_ = true;
  std::stable_sort(found_.begin(), found_.end(), [](const Found& a, const Found& b) { return a.age > b.age; });
  for (const Found& found : std::exchange(found_, {})) {
    const auto& [key, head, age, bytes] = found;
    keyed_calls_.open(key, head.payload, 0, true);
    // An intent without a result: it, or this sidecar, died in between.
    const Code code = head.is_result ? head.code : Code::kOutcomeUnknown;
    keyed_calls_.end(key, code, head.is_result && head.has_body ? Kept::kOnDisk : Kept::kNowhere, now, age, bytes);
    if (keyed_calls_.size() > limits::keys_max) forget_old_keys(now, out);
  }
  forget_old_keys(now, out);
}

void Inbound::forget_old_keys(Instant now, Actions& out) {
  keyed_calls_.expire(now, forgotten_);
  for (const wire::Digest& key : forgotten_) out.push_back(EraseRecord{key});
  forgotten_.clear();
}

// True if the request was answered, or waits for the call that has its key already.
bool Inbound::answer_known(const InboundRequest& request, const Asked& asked, Instant now, Actions& out) {
  const auto* entry = keyed_calls_.find(asked.key);
  if (entry == nullptr) return false;
  counters_.add(Counter::kKeyedDuplicates);
  if (entry->payload != asked.payload) {
    answer(request.origin,
           rejector_.reject(Code::kInvalid, services_[request.service].name, "idempotency", "key_reused",
                            "the idempotency key came before with another request",
                            "a new key for each new request; the same only to ask for the same again"),
           arrived(now, request.decompress_us), out);
  } else if (entry->open_call != 0) {
    join(entry->open_call, request, now, out);
  } else {
    answer_ended(request, asked, now, out);
  }
  return true;
}

void Inbound::answer_ended(const InboundRequest& request, const Asked& asked, Instant now, Actions& out) {
  using Kept = routing::KeyedCalls::Kept;
  const auto& entry = *keyed_calls_.find(asked.key);
  const std::string& service = services_[request.service].name;
  const wire::CalleeSpans spans = arrived(now, request.decompress_us);
  const uint64_t round = make_wrong_again(request, entry.code, now, out);
  const auto reject = [&](Code code, std::string_view rule, std::string text, std::string_view hint) {
    Outcome outcome = rejector_.reject(code, service, "idempotency", rule, std::move(text), hint);
    answer_after(round, request.origin, std::move(outcome), spans, false, out);
  };
  if (entry.code == Code::kOutcomeUnknown) {
    return reject(Code::kOutcomeUnknown, "died_in_between", "the agent or its sidecar died while it had this request",
                  "it may have been executed: check before you ask with a new key");
  }
  if (entry.code != Code::kOk) {
    return reject(entry.code, "as_before", "the request with this key was executed and ended with this code",
                  "ask with a new key for another attempt");
  }
  if (entry.kept == Kept::kNowhere) {
    return reject(Code::kStorage, "result_not_kept", "the request with this key was executed; its result is not kept",
                  "results are kept up to 1 MiB each");
  }
  const bool is_sensitive = services_.terms(request.service, request.method).sensitive;
  if (entry.kept == Kept::kInMemory) {
    Outcome outcome{.code = Code::kOk, .error = nullptr, .payload = {entry.body, entry.part_sizes}};
    return answer_after(round, request.origin, std::move(outcome), spans, is_sensitive, out);
  }
  if (loading_.size() >= limits::calls_per_target_max) {
    return reject(Code::kOverloaded, "loading", "too many kept results are being read", "ask again after some 100 ms");
  }
  if (queued_bytes_ + entry.disk_bytes > config_.limits.process_queued_bytes) {
    return reject(Code::kOverloaded, "memory", "this sidecar holds as many queued bytes as it may",
                  "ask again after some 100 ms, or raise limits.process_queued_bytes");
  }
  const uint64_t ticket = ++last_ticket_;
  loading_.emplace(ticket, Loading{{request.origin, now}, is_sensitive, entry.disk_bytes, round});
  queued_bytes_ += entry.disk_bytes;
  ++live_;
  out.push_back(LoadRecord{ticket, asked.key});
}

void Inbound::on(const RecordLoaded& event, Instant /*now*/, Actions& out) {
  const auto at = loading_.find(event.ticket);
  if (at == loading_.end()) return;
  const Loading loading = at->second;
  loading_.erase(at);
  queued_bytes_ -= loading.bytes;
  if (!loading.is_wanted) return;
  --live_;
  Outcome outcome;
  auto record = event.value ? wire::decode_kept(*event.value) : Result<wire::KeptRecord>(fail(Code::kStorage, "", ""));
  if (record && record->is_result) {
    outcome.payload = {std::move(record->body), std::move(record->part_sizes)};
  } else {
    outcome = rejector_.reject(Code::kStorage, "", "idempotency", "result_unreadable",
                               "the request with this key was executed; its result cannot be read any more",
                               "see the sidecar's log; the disk may be failing");
  }
  answer_after(loading.purge_round, loading.waiter.origin, std::move(outcome), arrived(loading.waiter.since, 0),
               loading.is_sensitive, out);
}

// Another who asks for the same waits for the one that is under way, which then has as long as the more patient of
// them.
void Inbound::join(uint64_t id, const InboundRequest& request, Instant now, Actions& out) {
  Call& call = *calls_.find(id);
  if (call.keyed->waiters.size() >= limits::waiters_per_key_max) {
    return answer(request.origin,
                  rejector_.reject(Code::kOverloaded, services_[call.service].name, "idempotency", "key_waiters",
                                   "too many wait for the request with this key", "ask again after some 100 ms"),
                  arrived(now, request.decompress_us), out);
  }
  if (call.keyed->waiters.empty()) {
    ++live_;
    if (call.state == State::kAbandoned) call.state = State::kDelivered, call.deadline = request.deadline;
  }
  call.keyed->waiters.push_back({request.origin, now});
  const bool is_queued = call.state == State::kQueued;
  if (is_queued) unqueue(id, call);
  call.deadline = std::max(call.deadline, request.deadline);
  call.connect_by = std::min(call.deadline, now + milliseconds(limits::connect_wait_ms));
  const bool waits_for_agent = is_queued && !agents_[call.agent].connected;
  calls_.set_deadline(id, std::min(waits_for_agent ? call.connect_by : call.deadline, call.keyed->give_up_at));
  if (!is_queued) return;
  agents_[call.agent].queue.emplace(call.priority, call.deadline, id);
  agents_[call.agent].queued_bytes += call.bytes;
}

void Inbound::intend(uint64_t id, Instant now, Actions& out) {
  Call& call = *calls_.find(id);
  Keyed& keyed = *call.keyed;
  keyed_calls_.open(keyed.key, keyed.payload, id, keyed.is_durable);
  if (keyed_calls_.size() > limits::keys_max) forget_old_keys(now, out);
  if (!keyed.is_durable) return admit(id, now, out);
  call.state = State::kIntending;
  call.payload.body = call.payload.body.compact();
  ++agents_[call.agent].intending;
  wire::KeptRecord intent;
  intent.payload = keyed.payload;
  out.push_back(PutRecord{id, keyed.key, wire::encode_kept(intent)});
}

void Inbound::on(const RecordStored& event, Instant now, Actions& out) {
  Call* call = calls_.find(event.ticket);
  if (call == nullptr || !call->keyed) return;
  const std::string& service = services_[call->service].name;
  if (call->state == State::kIntending) {
    if (event.is_stored && call->deadline <= now) return expire_keyed(event.ticket, now, out);
    --agents_[call->agent].intending;
    call->state = State::kQueued;
    if (event.is_stored) {
      calls_.set_deadline(event.ticket, agents_[call->agent].connected ? call->deadline : call->connect_by);
      return admit(event.ticket, now, out);
    }
    queued_bytes_ -= call->bytes;
    Outcome outcome = rejector_.reject(Code::kStorage, service, "idempotency", "intent_not_written",
                                       "that the request is to be executed could not be written down",
                                       "it was not executed; is the disk full?");
    answer_waiters(*call, outcome, now, out);
    keyed_calls_.forget(call->keyed->key);
    close(event.ticket, now, out);
  } else if (call->state == State::kKeeping) {
    Outcome outcome = std::move(call->keyed->outcome);
    if (!event.is_stored) {
      // In memory it is known, and who asks while this process lives is told.
      outcome = rejector_.reject(Code::kStorage, service, "idempotency", "result_not_written",
                                 "the request was executed, but its result could not be written down",
                                 "no second execution without a look at what the first did; is the disk full?");
    }
    close_keyed(event.ticket, std::move(outcome), now, out);
  }
}

// The agent is done with it, or is known to have nothing of it.
void Inbound::end_keyed(uint64_t id, Outcome&& outcome, Instant now, Actions& out) {
  using Kept = routing::KeyedCalls::Kept;
  Call& call = *calls_.find(id);
  Keyed& keyed = *call.keyed;
  if (call.wrongs != nullptr) keyed.purge_round = make_wrong(call, outcome, now, out);
  if (is_untouched(outcome.code)) {
    if (keyed.is_durable) out.push_back(EraseRecord{keyed.key});
    keyed_calls_.forget(keyed.key);
    return close_keyed(id, std::move(outcome), now, out);
  }
  // That it is unknown says the intent on disk already.
  if (keyed.is_durable && outcome.code != Code::kOutcomeUnknown) return keep(id, std::move(outcome), now, out);
  keyed_calls_.end(keyed.key, outcome.code, Kept::kNowhere, now);
  if (outcome.code == Code::kOk) keyed_calls_.keep_body(keyed.key, outcome.payload.body, outcome.payload.part_sizes);
  close_keyed(id, std::move(outcome), now, out);
}

// Nobody hears of the result before it is written down.
void Inbound::keep(uint64_t id, Outcome&& outcome, Instant now, Actions& out) {
  Call& call = *calls_.find(id);
  Keyed& keyed = *call.keyed;
  const Payload& payload = outcome.payload;
  wire::KeptRecord record;
  record.payload = keyed.payload;
  record.is_result = true;
  record.code = outcome.code;
  record.has_body = payload.body.size() <= limits::kept_result_bytes;
  if (record.has_body) record.body = payload.body, record.part_sizes = payload.part_sizes;
  out.push_back(PutRecord{id, keyed.key, wire::encode_kept(record)});
  call.state = State::kKeeping;
  keyed.give_up_at = kNever;
  keyed.outcome = std::move(outcome);
  calls_.set_deadline(id, keyed.waiters.empty() ? kNever : std::max(call.deadline, now));
}

void Inbound::close_keyed(uint64_t id, Outcome&& outcome, Instant now, Actions& out) {
  using Kept = routing::KeyedCalls::Kept;
  Call& call = *calls_.find(id);
  if (call.state == State::kKeeping) {
    const bool is_kept = outcome.code == Code::kOk && outcome.payload.body.size() <= limits::kept_result_bytes;
    keyed_calls_.end(call.keyed->key, outcome.code, is_kept ? Kept::kOnDisk : Kept::kNowhere, now, Duration{0},
                     outcome.payload.body.size());
  }
  answer_waiters(call, outcome, now, out);
  close(id, now, out);
}

void Inbound::answer_waiters(Call& call, const Outcome& outcome, Instant now, Actions& out) {
  if (call.keyed->waiters.empty()) return;
  --live_;
  for (const Waiter& waiter : call.keyed->waiters) {
    wire::CalleeSpans spans = spans_of(call, now);
    // Who joined later has waited for less.
    if (waiter.since > call.accepted_at) {
      spans = arrived(waiter.since, 0);
      spans.queue_us = static_cast<uint32_t>(to_us(now - waiter.since));
    }
    answer_after(call.keyed->purge_round, waiter.origin, copy_of(outcome), spans, call.is_sensitive, out);
  }
  call.keyed->waiters.clear();
}

void Inbound::drop_waiters(LinkId link, std::optional<uint64_t> call_id, Instant now, Actions& out) {
  const auto leaves = [&](const Origin& origin) {
    return origin.link == link && (!call_id || origin.call_id == *call_id);
  };
  std::vector<uint64_t> left;
  calls_.for_each([&](uint64_t id, Call& call) {
    if (!call.keyed || call.keyed->waiters.empty()) return;
    std::erase_if(call.keyed->waiters, [&](const Waiter& waiter) { return leaves(waiter.origin); });
    if (call.keyed->waiters.empty()) left.push_back(id);
  });
  for (const uint64_t id : left) {
    --live_;
    on_nobody_waits(id, now, out);
  }
  // What is being read comes all the same, and is in memory until then.
  for (auto& [ticket, loading] : loading_) {
    if (loading.is_wanted && leaves(loading.waiter.origin)) loading.is_wanted = false, --live_;
  }
}

// What the agent does not have yet it need not get; what it has is waited for, for a while.
void Inbound::on_nobody_waits(uint64_t id, Instant now, Actions& out) {
  Call& call = *calls_.find(id);
  switch (call.state) {
    case State::kQueued:
    case State::kIntending:
      if (call.state == State::kQueued) {
        unqueue(id, call);
      } else {
        --agents_[call.agent].intending;
      }
      queued_bytes_ -= call.bytes;
      if (call.keyed->is_durable) out.push_back(EraseRecord{call.keyed->key});
      keyed_calls_.forget(call.keyed->key);
      close(id, now, out);
      return;
    case State::kDelivered:
      call.state = State::kAbandoned;
      if (call.keyed->give_up_at == kNever) call.keyed->give_up_at = now + milliseconds(limits::agent_abandon_ms);
      calls_.set_deadline(id, call.keyed->give_up_at);
      return;
    case State::kKeeping:
      calls_.set_deadline(id, kNever);
      return;
    case State::kAbandoned:
      return;
  }
}

void Inbound::expire_keyed(uint64_t id, Instant now, Actions& out) {
  Call& call = *calls_.find(id);
  // What is being written down is not looked at for its agent before that is done.
  if (call.state == State::kIntending && call.deadline > now) return calls_.set_deadline(id, call.deadline);
  if (now < call.keyed->give_up_at) {
    const Outcome outcome = late_outcome(call, now);
    answer_waiters(call, outcome, now, out);
    return on_nobody_waits(id, now, out);
  }
  give_up_keyed(id, now, out);
}

void Inbound::give_up_keyed(uint64_t id, Instant now, Actions& out) {
  Call& call = *calls_.find(id);
  const AgentConfig& agent = config_.agents[call.agent];
  if (agent.socket == AgentSocket::kRep || !agent.correlate) return replace_connection(call.agent, out);
  // One that works on many at once is not disturbed for the sake of one.
  const AgentIndex index = call.agent;
  --agents_[index].working;
  end_keyed(id,
            rejector_.reject(Code::kOutcomeUnknown, services_[call.service].name, "agent", "agent_silent",
                             "agent '" + agent.name + "' did not answer long after the deadline",
                             "it may still be executing the request"),
            now, out);
  pump(index, now, out);
}

}  // namespace mesh::proxy
