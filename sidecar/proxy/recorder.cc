#include "sidecar/proxy/recorder.h"

namespace mesh::proxy {

using telemetry::Decision;

void Recorder::record(const Ended& ended, Instant now) {
  const telemetry::Trace& trace = ended.trace;
  const bool is_answered = ended.spans != nullptr;
  // In place: it is written for every call, and has some 400 bytes.
  Decision& decision = *new (log_.next_place()) Decision{
      .trace = trace,
      .ended = now,
      .client = ended.path.client,
      .port = ended.path.port,
      .service = ended.service,
      .priority = ended.priority,
      .lane = ended.lane,
      .code = ended.outcome.code,
      .request_bytes = ended.request_bytes,
      .reply_bytes = ended.outcome.payload.body.size(),
      .at_peer = ended.peer.has_value(),
      .has_spans = is_answered,
      .spans = is_answered ? *ended.spans : wire::CalleeSpans{},
      .decompress_us = ended.decompress_us,
      .reply_batch = ended.batch != nullptr ? *ended.batch : wire::BatchShape{},
  };
  decision.method.set(ended.method);
  if (ended.peer && is_answered && trace.left_at != kNever) {
    telemetry::ClockOffset& clock = clocks_[*ended.peer];
    clock.observe(trace.left_at, ended.spans->received_us, away_us_of(decision), now);
    decision.has_clock = clock.known();
    decision.clock_offset_us = clock.offset_us();
    decision.clock_bound_us = clock.bound_at(now);
  }
  if (ended.outcome.error) name_failure(decision, *ended.outcome.error);
  if (ended.service != Decision::kNoService && !ended.is_fetch) {
    Tally& tally = tallies_[ended.service];
    ++tally.results[static_cast<size_t>(decision.code)];
    tally.latency_us.record(static_cast<uint64_t>(to_us(decision.total())));
  }
  log_.keep(decision, now);
}

void Recorder::name_failure(Decision& decision, Error& error) const {
  error.call = hop_ + "-" + std::to_string(decision.trace.number);
  decision.hop.set(error.hop);
  decision.stage.set(error.stage);
  decision.rule.set(error.rule);
}

}  // namespace mesh::proxy
