#include "common/telemetry/decision.h"

namespace mesh::telemetry {
namespace {

constexpr std::array<std::string_view, kStageCount> kStageNames = {
    "cache",     "earlier_attempts",  "queue",        "batch_wait", "compress",
    "link_out",  "callee_decompress", "callee_queue", "agent",      "callee_compress",
    "link_back", "decompress",        "unanswered",
};

}  // namespace

std::string_view to_string(Stage stage) { return kStageNames.at(static_cast<size_t>(stage)); }

std::string_view to_string(Why why) {
  constexpr std::string_view names[] = {"nobody could be chosen",
                                        "the only one",
                                        "on the caller's host",
                                        "fewest in flight",
                                        "the next one after a failure",
                                        "the same one again",
                                        "the home of its key",
                                        "beside one that did not answer yet",
                                        "answers soonest",
                                        "answers about as soon as any"};
  return names[static_cast<size_t>(why)];
}

std::string_view to_string(Choice::State state) {
  constexpr std::string_view names[] = {"available", "draining", "failing", "tried"};
  return names[static_cast<size_t>(state)];
}

std::string_view to_string(wire::ModelPlace place) {
  constexpr std::string_view names[] = {"unknown", "unmanaged", "disk", "cached", "loading", "resident"};
  return names[static_cast<size_t>(place)];
}

std::string_view to_string(CacheVerdict verdict) {
  constexpr std::string_view names[] = {"none", "hit", "stale", "stale_error", "fetched", "joined", "untagged"};
  return names[static_cast<size_t>(verdict)];
}

std::string_view to_string(CacheMiss miss) {
  constexpr std::string_view names[] = {"", "absent", "expired", "purged", "unleased", "keyed"};
  return names[static_cast<size_t>(miss)];
}

std::string_view to_string(CacheKeeping keeping) {
  constexpr std::string_view names[] = {"",          "kept",   "failed",   "unsuccessful",
                                        "too_large", "purged", "unleased", "elsewhere"};
  return names[static_cast<size_t>(keeping)];
}

std::unique_ptr<CacheTrace> trace_of(const wire::KeptMark& kept) {
  const auto verdict = static_cast<CacheVerdict>(kept.verdict);
  if (kept.verdict > static_cast<uint32_t>(CacheVerdict::kUntagged) || !is_hit(verdict) || kept.tier > 3)
    return nullptr;
  return std::make_unique<CacheTrace>(
      CacheTrace{.verdict = verdict, .tier = static_cast<uint8_t>(kept.tier), .age_ms = kept.age_ms});
}

Stages stages_of(const Decision& decision) {
  Stages stages;
  const Trace& trace = decision.trace;
  const wire::CalleeSpans& spans = decision.spans;
  if (trace.attempts > 1) stages.spend(Stage::kEarlierAttempts, to_us(trace.attempt_at - trace.started));
  const bool has_waited = trace.cache.verdict != CacheVerdict::kNone && trace.attempts == 0;
  if (has_waited) stages.spend(Stage::kCache, to_us(decision.total()));
  if (trace.attempts == 0) return stages;
  const bool reached = decision.has_spans && spans.agent_us != wire::CalleeSpans::kAgentNotReached;
  if (!decision.at_peer) {
    if (decision.has_spans) stages.spend(Stage::kCalleeQueue, spans.queue_us);
    if (reached) stages.spend(Stage::kAgent, spans.agent_us);
    return stages;
  }
  if (trace.left_at == kNever) {
    stages.spend(Stage::kQueue, to_us(decision.ended - trace.attempt_at));
    return stages;
  }
  const uint32_t compress_us = trace.request_batch.sealing_us;
  stages.spend(Stage::kQueue, to_us(trace.left_at - trace.attempt_at) - trace.batch_wait_us - compress_us);
  if (trace.batch_wait_us > 0) stages.spend(Stage::kBatchWait, trace.batch_wait_us);
  if (compress_us > 0) stages.spend(Stage::kCompress, compress_us);
  if (!decision.has_spans) {
    stages.spend(Stage::kUnanswered, to_us(decision.ended - trace.left_at));
    return stages;
  }
  if (spans.decompress_us > 0) stages.spend(Stage::kCalleeDecompress, spans.decompress_us);
  stages.spend(Stage::kCalleeQueue, spans.queue_us);
  if (reached) stages.spend(Stage::kAgent, spans.agent_us);
  if (decision.reply_batch.sealing_us > 0) stages.spend(Stage::kCalleeCompress, decision.reply_batch.sealing_us);
  if (decision.decompress_us > 0) stages.spend(Stage::kDecompress, decision.decompress_us);

  const auto away_us = static_cast<int64_t>(away_us_of(decision));
  const int64_t link_us = std::max<int64_t>(0, to_us(decision.ended - trace.left_at) - away_us);
  int64_t out_us = link_us / 2;
  if (decision.has_clock) {
    const int64_t received_us = static_cast<int64_t>(spans.received_us) - decision.clock_offset_us;
    out_us = std::clamp<int64_t>(received_us - to_us(trace.left_at.time_since_epoch()), 0, link_us);
  }
  stages.spend(Stage::kLinkOut, out_us);
  stages.spend(Stage::kLinkBack, link_us - out_us);
  return stages;
}

}  // namespace mesh::telemetry
