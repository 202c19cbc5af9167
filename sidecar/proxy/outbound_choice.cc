// Which instance of a service a call goes to.

#include <algorithm>
#include <utility>

#include "common/routing/rendezvous.h"
#include "common/wire/digest.h"
#include "sidecar/proxy/outbound.h"

namespace mesh::proxy {
namespace {

telemetry::Choice choice_of(uint32_t index, const Instance& instance, telemetry::Choice::State state) {
  return {.instance = static_cast<uint8_t>(index),
          .state = state,
          .own_host = instance.own_host,
          .in_flight = static_cast<uint16_t>(std::min<uint32_t>(instance.in_flight, UINT16_MAX))};
}

}  // namespace

telemetry::Choice::State Outbound::state_of(const Instance& instance, wire::Lane lane, bool was_tried) const {
  using State = telemetry::Choice::State;
  if (was_tried) return State::kTried;
  if (instance.local) return State::kAvailable;
  const Peer& peer = peers_[instance.peer];
  return peer.draining[static_cast<size_t>(lane)]  ? State::kDraining
         : peer.failing[static_cast<size_t>(lane)] ? State::kFailing
                                                   : State::kAvailable;
}

// Not one that drains or was tried; one whose last connection failed only where there is no other.
std::optional<uint32_t> Outbound::choose(const Call& call, Instant now, telemetry::Choices& choices) {
  using telemetry::Choice;
  using telemetry::Why;
  const Service& service = services_[call.service];
  if (call.key) [[unlikely]]
    return home_of_key(call, choices);
  if (call.fetch != nullptr && call.fetch->is_home) [[unlikely]]
    return call.tried == 0 ? std::optional<uint32_t>(0) : std::nullopt;  // this sidecar's own agents
  const size_t count = std::min(service.instances.size(), limits::instances_max);
  choices.count = static_cast<uint8_t>(std::min(count, telemetry::Choices::kMax));
  choices.why = Why::kNobody;
  if (count == 1) {
    const Instance& only = service.instances[0];
    const Choice::State state = state_of(only, call.lane, call.tried != 0);
    choices.seen[0] = choice_of(0, only, state);
    if (state == Choice::State::kTried || state == Choice::State::kDraining) return std::nullopt;
    choices.chosen_instance = 0;
    choices.why = Why::kOnlyOne;
    return 0;
  }
  candidates_.clear();
  for (uint32_t i = 0; i < count; ++i) {
    const Instance& instance = service.instances[i];
    const Choice::State state = state_of(instance, call.lane, (call.tried >> i & 1) != 0);
    if (i < choices.count) choices.seen[i] = choice_of(i, instance, state);
    candidates_.push_back({i, instance.own_host, state == Choice::State::kAvailable, instance.in_flight});
  }
  if (call.model != nullptr) [[unlikely]] {
    if (const auto soonest = choose_soonest(call, now, choices)) return soonest;
  }
  if (call.fetch != nullptr && call.model == nullptr) [[unlikely]] {
    if (const auto home = home_of_reply(call)) {
      choices.chosen_instance = static_cast<uint8_t>(*home);
      choices.why = Why::kHomeOfKey;
      return home;
    }
  }
  auto best = routing::pick(candidates_);
  if (!best) {
    for (uint32_t i = 0; i < count; ++i) {
      candidates_[i].available =
          state_of(service.instances[i], call.lane, (call.tried >> i & 1) != 0) == Choice::State::kFailing;
    }
    best = routing::pick(candidates_);
  }
  if (!best) return std::nullopt;
  choices.chosen_instance = static_cast<uint8_t>(*best);
  choices.why = call.tried != 0                     ? Why::kNextAfterFailure
                : service.instances[*best].own_host ? Why::kOwnHost
                                                    : Why::kFewestInFlight;
  return static_cast<uint32_t>(*best);
}

// Of those that are there and take more: where the answer comes soonest, so that a model is used where it is.
std::optional<uint32_t> Outbound::choose_soonest(const Call& call, Instant now, telemetry::Choices& choices) {
  const Service& service = services_[call.service];
  telemetry::Forecasts forecasts;
  std::vector<std::optional<wire::Standing>> said;  // by agents of this sidecar
  // Where nobody has measured it yet it takes as long as where somebody has.
  double serve_us = 0;
  for (const routing::Candidate& candidate : candidates_) {
    const bool is_local = service.instances[candidate.instance].local;
    const StandingIndex own = is_local ? inbound_.standings().find(call.service, call.model->name) : kNoStanding;
    said.push_back(own != kNoStanding ? std::optional(inbound_.standing(own, now)) : std::nullopt);
    const PeerStandings::Place place{call.service, candidate.instance, call.model->name};
    serve_us = std::max(serve_us, standings_.serve_us(place, said.back() ? &*said.back() : nullptr));
  }
  std::vector<routing::Prospect> prospects;
  for (size_t i = 0; i < candidates_.size(); ++i) {
    const Instance& instance = service.instances[i];
    const telemetry::Forecast forecast = standings_.forecast(
        {call.service, static_cast<uint32_t>(i), call.model->name},
        {*call.model, call.priority, instance.in_flight, said[i] ? &*said[i] : nullptr, serve_us}, now);
    const bool has_room = instance.local
                              ? instance.in_flight < config_.limits.calls_per_target_max * service.agents.size()
                              : !is_full(instance, call.bytes);
    prospects.push_back(PeerStandings::prospect_of(forecast, candidates_[i].available && has_room, instance.own_host));
    if (i < forecasts.size()) forecasts[i] = forecast;
  }
  choices.forecasts = forecasts_.add(forecasts);
  const auto last = standings_.last(call.service, call.model->name);
  const auto chosen = routing::soonest(prospects, last ? std::optional<size_t>(*last) : std::nullopt);
  if (!chosen) return std::nullopt;
  choices.chosen_instance = static_cast<uint8_t>(chosen->index);
  choices.why = call.tried != 0 ? telemetry::Why::kNextAfterFailure
                : chosen->stays ? telemetry::Why::kStays
                                : telemetry::Why::kSoonest;
  return static_cast<uint32_t>(chosen->index);
}

void Outbound::note_model_answer(const Call& call, const wire::CalleeSpans& spans, Instant now) {
  if (spans.agent_us == wire::CalleeSpans::kAgentNotReached) return;
  const Duration away = microseconds(int64_t{spans.agent_us} + spans.queue_us);
  const bool is_local = instance_of(call).local;
  if (!is_local && call.trace.left_at == kNever) return;
  const Duration way = is_local ? Duration{} : std::max<Duration>(now - call.trace.left_at - away, Duration{});
  standings_.answered(place_of(call), way, microseconds(spans.agent_us));
}

void Outbound::on(const PeerStood& event, Instant now, Actions& /*out*/) {
  for (const wire::Standing& standing : event.standings) {
    const auto service = services_.find(standing.service);
    if (!service) continue;
    const std::vector<const contract::ModelTerms*> models = config_.contracts.models(standing.service);
    const auto is_it = [&](const contract::ModelTerms* model) { return model->name == standing.model; };
    // Only what is in a contract here can be asked for with it.
    if (std::none_of(models.begin(), models.end(), is_it)) continue;
    const std::vector<Instance>& instances = services_[*service].instances;
    for (uint32_t i = 0; i < instances.size(); ++i) {
      const bool is_his = !instances[i].local && instances[i].peer == event.peer;
      if (is_his) standings_.heard({*service, i, standing.model}, standing, now);
    }
  }
}

// Where an answer is dear its key picks who gives it: then one of several instances has it for all who ask, wherever
// they are. Of those that are there; and only where it costs so much more than the way that one in the wrong place is
// not worth its own.
std::optional<uint32_t> Outbound::home_of_reply(const Call& call) const {
  constexpr double kWaysWorth = 10;
  const Service& service = services_[call.service];
  if (!call.fetch->terms->uses(contract::Tier::kHome) || service.answer_us <= kWaysWorth * service.way_us)
    return std::nullopt;
  std::optional<uint32_t> home;
  uint64_t most = 0;
  for (const routing::Candidate& candidate : candidates_) {
    if (!candidate.available) continue;
    const uint64_t weight =
        routing::rendezvous_weight(call.fetch->key.hash.low, service.instances[candidate.instance].name_digest);
    if (!home || weight > most) home = candidate.instance, most = weight;
  }
  return home;
}

void Outbound::note_cost(const Call& call, const wire::CalleeSpans& spans, Instant now) {
  constexpr double kShare = 0.125;  // of the newest
  if (spans.agent_us == wire::CalleeSpans::kAgentNotReached || call.trace.left_at == kNever) return;
  Service& service = services_[call.service];
  const double away_us = static_cast<double>(spans.agent_us) + spans.queue_us;
  const double way_us = std::max(1.0, static_cast<double>(to_us(now - call.trace.left_at)) - away_us);
  const bool is_first = service.way_us == 0;
  service.answer_us += (is_first ? 1 : kShare) * (spans.agent_us - service.answer_us);
  service.way_us += (is_first ? 1 : kShare) * (way_us - service.way_us);
}

// The same instance for the same key, whatever state it is in: only there it is known whether the call was executed.
std::optional<uint32_t> Outbound::home_of_key(const Call& call, telemetry::Choices& choices) const {
  const Service& service = services_[call.service];
  const uint64_t key = wire::digest_of({call.key->caller, call.key->key}).short_form();
  const auto& instances = service.instances;
  const auto home = std::max_element(instances.begin(), instances.end(), [&](const Instance& a, const Instance& b) {
    return routing::rendezvous_weight(key, a.name_digest) < routing::rendezvous_weight(key, b.name_digest);
  });
  const auto index = static_cast<uint32_t>(home - instances.begin());
  const telemetry::Choice::State state = state_of(*home, call.lane, call.tried != 0);
  choices.count = 1;
  choices.seen[0] = choice_of(index, *home, state);
  choices.why = telemetry::Why::kNobody;
  if (state == telemetry::Choice::State::kTried || state == telemetry::Choice::State::kDraining) return std::nullopt;
  choices.chosen_instance = static_cast<uint8_t>(index);
  choices.why = telemetry::Why::kHomeOfKey;
  return index;
}

// An instance that was tried before: where the call may have been executed and that does no harm, or where it was
// turned away so soon that whoever went away may be back in time.
std::optional<uint32_t> Outbound::choose_same(Call& call, Code code, Instant now, telemetry::Choices& choices) {
  const bool was_short = now - call.trace.attempt_at < milliseconds(limits::connect_wait_ms) / 2;
  // Who may just ask again is told so, once every instance has had its chance.
  if (!call.idempotent && !call.key) return std::nullopt;
  if (call.is_second_round || (code != Code::kOutcomeUnknown && !was_short)) return std::nullopt;
  const uint32_t tried = std::exchange(call.tried, 0);
  const auto next = choose(call, now, choices);
  const bool is_there = next && state_of(services_[call.service].instances[*next], call.lane, false) ==
                                    telemetry::Choice::State::kAvailable;
  if (!is_there) {
    call.tried = tried;
    return std::nullopt;
  }
  call.is_second_round = true;
  if (!call.key) choices.why = telemetry::Why::kSameAgain;
  return next;
}

// What was certainly not executed is sent again, and what may have been if executing it twice does no harm.
bool Outbound::try_again(uint64_t id, Code code, Instant now, Actions& out) {
  Call& call = *calls_.find(id);
  const bool is_untouched = code == Code::kNotSent || code == Code::kDraining;
  const bool is_harmless = call.idempotent && !call.key && code == Code::kOutcomeUnknown;
  if (!call.is_kept || (!is_untouched && !is_harmless) || call.deadline <= now) return false;
  telemetry::Choices choices;
  auto next = choose(call, now, choices);
  if (!next) next = choose_same(call, code, now, choices);
  if (!next || is_full(services_[call.service].instances[*next], call.bytes)) return false;
  // What never left this process loads nobody.
  const bool has_left = instance_of(call).local || call.trace.left_at != kNever;
  if (has_left && !services_[call.service].retries.take(now)) {
    counters_.add(Counter::kRetriesDenied);
    return false;
  }
  if (!is_untouched) call.may_be_executed = true;
  counters_.add(is_untouched ? Counter::kRetriesAfterNotSent : Counter::kRetriesOfIdempotent);
  telemetry::Trace& trace = call.trace;
  trace.earlier[trace.attempts - 1] = {.instance = static_cast<uint8_t>(call.instance),
                                       .code = code,
                                       .took_us = static_cast<uint32_t>(to_us(now - trace.attempt_at))};
  call.instance = *next;
  trace.choices = choices;
  Payload payload = std::move(call.payload);  // it may be kept once more
  send(id, std::move(payload), now, out);
  return true;
}

// That the last attempt did not reach an agent says nothing of those before.
void Outbound::admit_ignorance(const Call& call, Outcome& outcome) const {
  const Code code = outcome.code;
  if (code == Code::kOk || code == Code::kAppError || code == Code::kDeadline || code == Code::kOutcomeUnknown) return;
  outcome =
      rejector_.reject(Code::kOutcomeUnknown, services_[call.service].name, "link", "earlier_attempt",
                       "an attempt may have been executed, and the last ended with " + std::string(to_string(code)),
                       "the method is declared idempotent: asking again does no harm");
}

Outcome Outbound::no_instance(const Call& call) const {
  if (call.key) {
    return rejector_.reject(Code::kDraining, services_[call.service].name, "routing", "home_draining",
                            "the sidecar that keeps this idempotency key is shutting down", "ask again in a second");
  }
  return rejector_.reject(Code::kDraining, services_[call.service].name, "routing", "all_draining",
                          "every instance of the service is shutting down", "ask again in a second");
}

}  // namespace mesh::proxy
