#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "common/base/prng.h"
#include "common/telemetry/clock_offset.h"
#include "common/telemetry/decision_log.h"
#include "common/telemetry/histogram.h"

namespace mesh::telemetry {
namespace {

const Instant kStart{milliseconds(1'000'000)};

// Values as latencies come: most in a heap, some far out.
std::vector<uint64_t> draw(uint64_t seed, int shape, size_t count) {
  Prng prng(seed);
  std::vector<uint64_t> values;
  for (size_t i = 0; i < count; ++i) {
    const double unit = (static_cast<double>(prng.below(1'000'000)) + 1) / 1e6;
    const double value = shape == 0   ? unit * 1000                                    // even
                         : shape == 1 ? 200 * std::pow(unit, -0.7)                     // heavy tail
                         : shape == 2 ? -5000 * std::log(unit)                         // exponential
                                      : (prng.below(2) == 0 ? 90 : 4'000'000) + unit;  // two heaps
    values.push_back(static_cast<uint64_t>(value));
  }
  return values;
}

TEST_CASE("a quantile is within 1 % of the true one, whatever the distribution") {
  for (int shape = 0; shape < 4; ++shape) {
    Histogram histogram;
    std::vector<uint64_t> values = draw(7, shape, 20'000);
    for (const uint64_t value : values) histogram.record(value);
    std::sort(values.begin(), values.end());
    for (const double fraction : {0.0, 0.01, 0.25, 0.5, 0.9, 0.99, 0.999, 1.0}) {
      const size_t rank = static_cast<size_t>(std::ceil(fraction * static_cast<double>(values.size())));
      const double truth = static_cast<double>(values[std::max<size_t>(rank, 1) - 1]);
      CHECK(std::abs(static_cast<double>(histogram.quantile(fraction)) - truth) <= std::max(0.01 * truth, 0.5));
    }
    CHECK(histogram.max() == values.back());
  }
}

TEST_CASE("every value is told back to within 1 %, over the whole range and beyond its end") {
  for (uint64_t value = 0; value <= Histogram::kValueMax; value = value + value / 97 + 1) {
    Histogram histogram;
    histogram.record(value);
    const double error = std::abs(static_cast<double>(histogram.quantile(0.5)) - static_cast<double>(value));
    REQUIRE(error <= 0.01 * static_cast<double>(value));
  }
  Histogram histogram;
  histogram.record(UINT64_MAX);
  CHECK(histogram.quantile(0.5) <= Histogram::kValueMax);
  CHECK(histogram.count() == 1);
}

TEST_CASE("parts that were recorded apart merge into the whole, and a difference gives the part back") {
  Histogram whole;
  Histogram first;
  Histogram second;
  for (const uint64_t value : draw(1, 1, 5000)) whole.record(value), first.record(value);
  for (const uint64_t value : draw(2, 2, 3000)) whole.record(value), second.record(value);
  Histogram merged = first;
  merged.merge(second);
  merged.merge(Histogram());
  CHECK(merged.count() == 8000);
  CHECK(merged.sum() == whole.sum());
  for (const double fraction : {0.1, 0.5, 0.9, 0.99}) CHECK(merged.quantile(fraction) == whole.quantile(fraction));
  const Histogram difference = merged.since(first);
  CHECK(difference.count() == 3000);
  for (const double fraction : {0.1, 0.5, 0.9, 0.99}) CHECK(difference.quantile(fraction) == second.quantile(fraction));
  // A process that was restarted has fewer than before: all it has is new.
  CHECK(second.since(whole).count() == 3000);
}

TEST_CASE("a histogram is rebuilt from its marks, and marks that no histogram has are refused") {
  Histogram histogram;
  for (const uint64_t value : draw(3, 3, 1000)) histogram.record(value);
  Histogram rebuilt;
  histogram.for_each([&](size_t mark, uint64_t count) { CHECK(rebuilt.add(mark, count)); });
  rebuilt.set_totals(histogram.sum(), histogram.max());
  CHECK(rebuilt.count() == histogram.count());
  CHECK(rebuilt.quantile(0.9) == histogram.quantile(0.9));
  CHECK_FALSE(rebuilt.add(1'000'000, 1));
  CHECK(Histogram().quantile(0.5) == 0);
}

TEST_CASE("the truth about a clock lies within the bound, whatever each direction took, and the quickest echo counts") {
  Prng prng(9);
  for (const int64_t truth_us : {0, 5'000'000, -777'777}) {
    ClockOffset clock;
    Instant now = kStart;
    int64_t best_us = INT64_MAX;
    for (int i = 0; i < 200; ++i) {
      const auto out_us = static_cast<int64_t>(30 + prng.below(3000));
      const auto away_us = static_cast<int64_t>(prng.below(20'000));
      const auto back_us = static_cast<int64_t>(30 + prng.below(3000));
      const int64_t received_us = to_us(now.time_since_epoch()) + out_us + truth_us;
      const Instant back = now + microseconds(out_us + away_us + back_us);
      clock.observe(now, static_cast<uint64_t>(received_us), static_cast<uint64_t>(away_us), back);
      best_us = std::min(best_us, (out_us + back_us + 1) / 2);
      REQUIRE(clock.known());
      REQUIRE(std::abs(clock.offset_us() - truth_us) <= clock.bound_at(back));
      REQUIRE(clock.bound_at(back) <= best_us + 1000);
      now = back + milliseconds(5);
    }
    // Nobody asked for an hour: the clocks have drifted, and the bound says so.
    CHECK(clock.bound_at(now + std::chrono::hours(1)) > 700'000);
    clock.forget();
    CHECK_FALSE(clock.known());
  }
}

TEST_CASE("a callee that claims to have worked longer than the call took teaches nothing") {
  ClockOffset clock;
  clock.observe(kStart, 5, 2000, kStart + microseconds(1000));
  CHECK_FALSE(clock.known());
}

void keep(DecisionLog& log, uint64_t number, uint64_t total_us, Code code = Code::kOk, Instant now = kStart) {
  const Instant ended = kStart + microseconds(static_cast<int64_t>(total_us));
  log.keep(
      *new (log.next_place()) Decision{.trace = {.number = number, .started = kStart}, .ended = ended, .code = code},
      now);
}

TEST_CASE("the newest are kept, newest first, and a place that is used again remembers nothing of before") {
  DecisionLog log;
  for (uint64_t n = 1; n <= 3 * DecisionLog::kNewestMax + 5; ++n) {
    Decision& decision = *new (log.next_place()) Decision{.trace = {.number = n}};
    if (n % 2 == 0) decision.rule.set("even");
    log.keep(decision, kStart);
  }
  const auto newest = log.newest(10'000);
  REQUIRE(newest.size() == DecisionLog::kNewestMax);
  for (size_t i = 0; i < newest.size(); ++i) {
    REQUIRE(newest[i]->trace.number == 3 * DecisionLog::kNewestMax + 5 - i);
    REQUIRE(newest[i]->rule.view() == (newest[i]->trace.number % 2 == 0 ? "even" : ""));
  }
  CHECK(log.newest(3).size() == 3);
  CHECK(log.find(DecisionLog::kSlowestMax + 1) == nullptr);  // those before are the slowest, for want of others
  REQUIRE(log.find(newest[7]->trace.number) != nullptr);
  CHECK(log.find(newest[7]->trace.number)->trace.number == newest[7]->trace.number);
}

TEST_CASE("a failed call is found long after thousands of good ones") {
  DecisionLog log;
  keep(log, 1, 10, Code::kDeadline);
  for (uint64_t n = 2; n < 5000; ++n) keep(log, n, 10);
  REQUIRE(log.failed(10).size() == 1);
  CHECK(log.failed(10)[0]->trace.number == 1);
  CHECK(log.find(1) != nullptr);
}

TEST_CASE("the slowest are kept, slowest first, until they are two spans old") {
  DecisionLog log;
  for (uint64_t n = 1; n <= 5000; ++n) keep(log, n, (n * 7919) % 5000);
  auto slowest = log.slowest(DecisionLog::kSlowestMax);
  REQUIRE(slowest.size() == DecisionLog::kSlowestMax);
  for (size_t i = 0; i < slowest.size(); ++i)
    CHECK(slowest[i]->total() == microseconds(4999 - static_cast<int64_t>(i)));
  const Instant later = kStart + DecisionLog::kSlowestSpan + milliseconds(1);
  keep(log, 6000, 3, Code::kOk, later);
  CHECK(log.slowest(1)[0]->total() == microseconds(4999));
  keep(log, 6001, 2, Code::kOk, later + DecisionLog::kSlowestSpan);
  CHECK(log.slowest(1)[0]->total() == microseconds(3));
  keep(log, 6002, 1, Code::kOk, later + 5 * DecisionLog::kSlowestSpan);
  slowest = log.slowest(10);
  REQUIRE(slowest.size() == 1);
  CHECK(slowest[0]->trace.number == 6002);
}

// A call to a peer: 1 ms of queue, 2 ms held back, 3 ms of compression, then the link; and the callee's part.
Decision crossed() {
  Decision decision{
      .trace = {.started = kStart, .attempt_at = kStart, .attempts = 1}, .at_peer = true, .has_spans = true};
  decision.trace.left_at = kStart + milliseconds(6);
  decision.trace.batch_wait_us = 2000;
  decision.trace.request_batch.sealing_us = 3000;
  decision.spans = {.received_us = static_cast<uint64_t>(to_us(decision.trace.left_at.time_since_epoch())) + 5'000'700,
                    .decompress_us = 100,
                    .queue_us = 4000,
                    .agent_us = 5000};
  decision.reply_batch.sealing_us = 200;
  decision.decompress_us = 50;
  decision.ended = decision.trace.left_at + microseconds(9350 + 1000);  // 1 ms on the link, there and back
  return decision;
}

uint64_t sum_of(const Stages& stages) {
  uint64_t sum = 0;
  for (size_t i = 0; i < kStageCount; ++i) sum += stages[static_cast<Stage>(i)];
  return sum;
}

TEST_CASE("every microsecond of an answered call is in one stage") {
  Decision decision = crossed();
  Stages stages = stages_of(decision);
  CHECK(sum_of(stages) == to_us(decision.total()));
  CHECK(stages[Stage::kQueue] == 1000);
  CHECK(stages[Stage::kBatchWait] == 2000);
  CHECK(stages[Stage::kCompress] == 3000);
  CHECK(stages[Stage::kCalleeQueue] == 4000);
  CHECK(stages[Stage::kAgent] == 5000);
  CHECK(stages[Stage::kLinkOut] == 500);  // nobody knows better
  CHECK(stages[Stage::kLinkBack] == 500);
  CHECK_FALSE(stages.came_to(Stage::kUnanswered));
  CHECK_FALSE(stages.came_to(Stage::kEarlierAttempts));
  decision.has_clock = true;
  decision.clock_offset_us = 5'000'000;
  stages = stages_of(decision);
  CHECK(stages[Stage::kLinkOut] == 700);
  CHECK(stages[Stage::kLinkBack] == 300);
  CHECK(sum_of(stages) == to_us(decision.total()));
}

TEST_CASE("a callee that lies about its part costs its own stages, and none is below nothing") {
  Decision decision = crossed();
  decision.spans.agent_us = 4'000'000'000;
  decision.has_clock = true;
  decision.clock_offset_us = INT64_MIN / 2;
  const Stages stages = stages_of(decision);
  CHECK(stages[Stage::kLinkOut] == 0);
  CHECK(stages[Stage::kLinkBack] == 0);
  CHECK(stages[Stage::kQueue] == 1000);
}

TEST_CASE("a call that was not answered is told as far as it came") {
  Decision decision = crossed();
  decision.has_spans = false;
  CHECK(stages_of(decision)[Stage::kUnanswered] == 10'350);
  CHECK(sum_of(stages_of(decision)) == to_us(decision.total()));
  decision.trace.left_at = kNever;
  CHECK(stages_of(decision)[Stage::kQueue] == to_us(decision.total()));
  decision.trace.attempts = 0;  // refused at once
  CHECK(sum_of(stages_of(decision)) == 0);
  decision = crossed();
  decision.trace.attempts = 2;
  decision.trace.attempt_at += microseconds(400);
  CHECK(stages_of(decision)[Stage::kEarlierAttempts] == 400);
  CHECK(sum_of(stages_of(decision)) == to_us(decision.total()));
  decision.at_peer = false;  // the second attempt was an agent of this sidecar
  CHECK(stages_of(decision)[Stage::kAgent] == 5000);
  CHECK_FALSE(stages_of(decision).came_to(Stage::kLinkOut));
}

}  // namespace
}  // namespace mesh::telemetry
