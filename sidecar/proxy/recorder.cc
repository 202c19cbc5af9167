#include "sidecar/proxy/recorder.h"

#include <algorithm>

namespace mesh::proxy {

using telemetry::Decision;
using telemetry::Stage;

void Recorder::record(const Ended& ended, Instant now) {
  const Trace& trace = ended.trace;
  Outcome& outcome = ended.outcome;
  Decision& decision = log_.begin();
  decision.number = trace.number;
  decision.started = trace.started;
  decision.total_us = static_cast<uint64_t>(to_us(now - trace.started));
  decision.client = ended.path.client;
  decision.port = ended.path.port;
  decision.service = ended.service;
  decision.method.set(ended.method);
  decision.priority = ended.priority;
  decision.lane = ended.lane;
  decision.attempts = trace.attempts;
  decision.code = outcome.code;
  decision.choices = trace.choices;
  decision.request_bytes = ended.request_bytes;
  decision.reply_bytes = outcome.payload.body.size();
  decision.request_batch = trace.request_batch;
  if (ended.batch != nullptr) decision.reply_batch = *ended.batch;
  decision.budget_us = trace.budget_us;
  decision.sent_budget_us = trace.sent_budget_us;
  if (trace.attempts > 1) decision.spend(Stage::kEarlierAttempts, to_us(trace.attempt_at - trace.started));
  if (ended.peer) {
    spend_at_peer(ended, now, decision);
  } else if (trace.attempts > 0 && ended.spans != nullptr) {
    decision.spend(Stage::kCalleeQueue, ended.spans->queue_us);
    if (ended.spans->agent_us != wire::CalleeSpans::kAgentNotReached) {
      decision.spend(Stage::kAgent, ended.spans->agent_us);
    }
  }
  if (outcome.error) {
    outcome.error->call = hop_ + "-" + std::to_string(trace.number);
    decision.hop.set(outcome.error->hop);
    decision.stage.set(outcome.error->stage);
    decision.rule.set(outcome.error->rule);
  }
  if (ended.service != Decision::kNoService) {
    Tally& tally = tallies_[ended.service];
    ++tally.results[static_cast<size_t>(outcome.code)];
    tally.latency_us.record(decision.total_us);
  }
  log_.keep(now);
}

// Ours is what lies before it left and after its reply came; the callee's is what it says; the link's is the rest.
// Which part of that was which direction is known as well as the clocks are.
void Recorder::spend_at_peer(const Ended& ended, Instant now, Decision& decision) {
  const Trace& trace = ended.trace;
  if (trace.left_at == kNever) {
    decision.spend(Stage::kQueue, to_us(now - trace.attempt_at));
    return;
  }
  const uint32_t compress_us = trace.request_batch.sealing_us;
  decision.spend(Stage::kQueue, to_us(trace.left_at - trace.attempt_at) - trace.batch_wait_us - compress_us);
  if (trace.batch_wait_us > 0) decision.spend(Stage::kBatchWait, trace.batch_wait_us);
  if (compress_us > 0) decision.spend(Stage::kCompress, compress_us);
  if (ended.spans == nullptr || ended.batch == nullptr) {
    decision.spend(Stage::kUnanswered, to_us(now - trace.left_at));
    return;
  }
  const wire::CalleeSpans& spans = *ended.spans;
  const bool reached = spans.agent_us != wire::CalleeSpans::kAgentNotReached;
  const uint64_t away_us = uint64_t{spans.decompress_us} + spans.queue_us + (reached ? spans.agent_us : 0) +
                           ended.batch->sealing_us + ended.decompress_us;
  if (spans.decompress_us > 0) decision.spend(Stage::kCalleeDecompress, spans.decompress_us);
  decision.spend(Stage::kCalleeQueue, spans.queue_us);
  if (reached) decision.spend(Stage::kAgent, spans.agent_us);
  if (ended.batch->sealing_us > 0) decision.spend(Stage::kCalleeCompress, ended.batch->sealing_us);
  if (ended.decompress_us > 0) decision.spend(Stage::kDecompress, ended.decompress_us);

  telemetry::ClockOffset& clock = clocks_[*ended.peer];
  clock.observe(trace.left_at, spans.received_us, away_us, now);
  const int64_t link_us = std::max<int64_t>(0, to_us(now - trace.left_at) - static_cast<int64_t>(away_us));
  int64_t out_us = link_us / 2;
  if (clock.known()) {
    const int64_t received_us = static_cast<int64_t>(spans.received_us) - clock.offset_us();
    out_us = std::clamp<int64_t>(received_us - to_us(trace.left_at.time_since_epoch()), 0, link_us);
    decision.has_clock = true;
    decision.clock_offset_us = clock.offset_us();
    decision.clock_bound_us = clock.bound_at(now);
  }
  decision.spend(Stage::kLinkOut, out_us);
  decision.spend(Stage::kLinkBack, link_us - out_us);
}

}  // namespace mesh::proxy
