// A second instance is asked where the first takes its time; the first answer counts. (Dean and Barroso, "The Tail at
// Scale", 2013.)

#include <algorithm>
#include <utility>

#include "sidecar/proxy/outbound.h"

namespace mesh::proxy {

// Only beside one that has the call: a call that waits for a connection is sent elsewhere anyway.
void Outbound::arm_hedge(uint64_t id, Instant now) {
  const Call* call = calls_.find(id);
  if (call == nullptr || call->hedge_after == Duration{0} || services_[call->service].instances.size() < 2) return;
  const Instance& instance = instance_of(*call);
  if (!instance.local && !peers_[instance.peer].up[static_cast<size_t>(call->lane)]) return;
  calls_.set_deadline(id, std::min(call->deadline, now + call->hedge_after));
}

bool Outbound::is_hedge_due(const Call& call, Instant now) const {
  return call.hedge_after > Duration{0} && call.trace.attempts == 1 && now < call.deadline &&
         now >= call.trace.attempt_at + call.hedge_after;
}

void Outbound::hedge(uint64_t id, Instant now, Actions& out) {
  Call& call = *calls_.find(id);
  call.hedge_after = Duration{0};
  calls_.set_deadline(id, call.deadline);
  telemetry::Choices choices;
  const auto next = choose(call, now, choices);
  const auto state =
      next ? state_of(services_[call.service].instances[*next], call.lane, false) : telemetry::Choice::State::kTried;
  if (state != telemetry::Choice::State::kAvailable) return;
  // What nobody needs must not push out what somebody asks for.
  const Instance& instance = services_[call.service].instances[*next];
  if (is_full(instance, call.bytes) || held_bytes_ + call.bytes > config_.limits.process_queued_bytes) return;
  if (!services_[call.service].retries.take(now)) return counters_.add(Counter::kRetriesDenied);
  counters_.add(Counter::kHedges);
  choices.why = telemetry::Why::kHedge;
  Call second{.path = {},
              .service = call.service,
              .instance = *next,
              .tried = call.tried,
              .idempotent = true,
              .is_sensitive = call.is_sensitive,
              .is_hedge = true,
              .twin = id,
              .priority = call.priority,
              .lane = call.lane,
              .deadline = call.deadline,
              .trace = call.trace,
              .bytes = call.bytes,
              .method = call.method,
              .model = call.model,
              .key = nullptr,
              .fetch = nullptr,
              .wrongs = nullptr,
              .payload = {}};
  second.trace.choices = choices;
  second.trace.earlier[0] = {.instance = static_cast<uint8_t>(call.instance),
                             .code = Code::kDeadline,  // of the patience with it
                             .took_us = static_cast<uint32_t>(to_us(now - call.trace.attempt_at))};
  held_bytes_ += call.bytes;
  Payload payload = call.payload;
  const Instant deadline = call.deadline;
  const uint64_t twin = calls_.open(std::move(second), deadline);  // the table may have moved
  calls_.find(id)->twin = twin;
  send(twin, std::move(payload), now, out);
}

// For whom it was asked, and what follows from the answer.
void Outbound::take_purpose(Call& to, Call& from) {
  to.path = std::move(from.path);
  to.fetch = std::move(from.fetch);
  to.wrongs = std::move(from.wrongs);
}

// One of two has ended. True if the other one goes on and will end the call; else the other one is told to stop.
bool Outbound::leave_to_twin(uint64_t id, const Outcome& outcome, Instant now, Actions& out) {
  Call& call = *calls_.find(id);
  const uint64_t twin = std::exchange(call.twin, 0);
  Call& other = *calls_.find(twin);
  other.twin = 0;
  if (outcome.code == Code::kOk || outcome.code == Code::kAppError) {
    if (std::exchange(call.is_hedge, false)) {
      counters_.add(Counter::kHedgesWon);
      take_purpose(call, other);
    }
    drop(twin, now, out);
    return false;
  }
  if (std::exchange(other.is_hedge, false)) {
    take_purpose(other, call);
    other.payload = std::move(call.payload);
    other.is_kept = call.is_kept && other.trace.attempts < limits::attempts_max;
    other.trace.earlier[0].code = outcome.code;
  } else if (other.trace.attempts < limits::attempts_max) {
    other.trace.earlier[other.trace.attempts - 1] = {
        .instance = static_cast<uint8_t>(call.instance),
        .code = outcome.code,
        .took_us = static_cast<uint32_t>(to_us(now - call.trace.attempt_at))};
    ++other.trace.attempts;
  }
  other.tried |= call.tried;
  other.may_be_executed |=
      call.may_be_executed || outcome.code == Code::kOutcomeUnknown || outcome.code == Code::kDeadline;
  held_bytes_ -= call.bytes;
  call.payload = Payload();
  calls_.erase(id);
  return true;
}

}  // namespace mesh::proxy
