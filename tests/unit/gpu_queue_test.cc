#include <doctest/doctest.h>

#include "common/base/prng.h"
#include "common/gpu/backfill.h"
#include "common/gpu/queue.h"

namespace mesh::gpu {
namespace {

const Instant kNow{milliseconds(1'000'000)};

LeaseId id_of(uint64_t number) { return {number, number}; }

Waiter waiter(uint64_t number, Priority priority, int64_t deadline_ms = 60'000, Instant asked_at = kNow) {
  Waiter made;
  made.id = id_of(number);
  made.priority = priority;
  made.least = made.ask = 10;
  made.gpus = 0b11;
  made.asked_at = asked_at;
  made.deadline = asked_at + milliseconds(deadline_ms);
  return made;
}

Queue::OpenFor open(GpuMask mask) {
  return [mask](const Waiter&) { return mask; };
}

std::vector<uint64_t> numbers(const std::vector<const Waiter*>& order) {
  std::vector<uint64_t> result;
  for (const Waiter* each : order) result.push_back(each->id.low);
  return result;
}

TEST_CASE("whoever had least for its weight goes first") {
  FairShare shares(1000);
  shares.begin(id_of(100), Priority::kCritical, 70, milliseconds(1000), kNow);
  shares.begin(id_of(101), Priority::kBatch, 10, milliseconds(1000), kNow);
  CHECK(shares.pass(Priority::kCritical) < shares.pass(Priority::kBatch));
  shares.begin(id_of(102), Priority::kCritical, 20, milliseconds(1000), kNow);
  CHECK(shares.pass(Priority::kCritical) > shares.pass(Priority::kBatch));
}

TEST_CASE("what a hold is charged in the end is what it held, whatever was expected") {
  for (const int64_t expected_ms : {0, 500, 2000, 90'000}) {
    FairShare shares(1000);
    shares.begin(id_of(1), Priority::kNormal, 100, milliseconds(expected_ms), kNow);
    shares.advance(kNow + milliseconds(1000));
    shares.resize(id_of(1), 50, kNow + milliseconds(1500));
    shares.advance(kNow + milliseconds(1700));
    shares.end(id_of(1), kNow + milliseconds(3500));
    CHECK(shares.pass(Priority::kNormal) == doctest::Approx((150 + 100) / 2.0));
  }
}

TEST_CASE("a hold that lasts longer than expected is charged while it does") {
  FairShare shares(1000);
  shares.begin(id_of(1), Priority::kBatch, 100, milliseconds(1000), kNow);
  shares.advance(kNow + milliseconds(1000));
  CHECK(shares.pass(Priority::kBatch) == doctest::Approx(100));
  shares.advance(kNow + milliseconds(3000));
  CHECK(shares.pass(Priority::kBatch) == doctest::Approx(300));
}

TEST_CASE("who wanted nothing for an hour has saved up nothing, and owes a minute at most") {
  FairShare shares(100);
  Queue queue;
  shares.begin(id_of(1), Priority::kNormal, 100, milliseconds(3'600'000), kNow);
  REQUIRE(queue.push(waiter(2, Priority::kNormal), shares));
  REQUIRE(queue.push(waiter(3, Priority::kBatch), shares));
  CHECK(shares.pass(Priority::kBatch) == shares.pass(Priority::kNormal));
  // The other way round: who used all while another waited that did not fit.
  FairShare alone(100);
  Queue other;
  REQUIRE(other.push(waiter(2, Priority::kBatch), alone));
  alone.begin(id_of(1), Priority::kNormal, 100, milliseconds(3'600'000), kNow);
  REQUIRE(other.push(waiter(3, Priority::kNormal), alone));
  CHECK(alone.pass(Priority::kNormal) == doctest::Approx(60 * 100 / 2.0));
}

TEST_CASE("who comes while others hold begins where they are, not with what it did not use") {
  FairShare shares(100);
  Queue queue;
  shares.begin(id_of(1), Priority::kCritical, 100, milliseconds(8000), kNow);
  REQUIRE(queue.push(waiter(2, Priority::kBatch), shares));
  CHECK(shares.pass(Priority::kBatch) == shares.pass(Priority::kCritical));
}

TEST_CASE("within a priority the earliest deadline goes first, then the oldest") {
  FairShare shares(1000);
  Queue queue;
  queue.push(waiter(1, Priority::kNormal, 900), shares);
  queue.push(waiter(2, Priority::kNormal, 500), shares);
  queue.push(waiter(3, Priority::kNormal, 600, kNow - milliseconds(100)), shares);
  queue.push(waiter(4, Priority::kCritical, 5000), shares);
  CHECK(numbers(queue.order(shares)) == std::vector<uint64_t>{4, 3, 2, 1});
}

TEST_CASE("waiters for a model that is loaded again and again go together") {
  FairShare shares(1000);
  Queue queue;
  for (const uint64_t number : {1, 2, 3, 4}) {
    Waiter made = waiter(number, Priority::kNormal, static_cast<int64_t>(number) * 1000);
    made.model = {number % 2, 9};
    queue.push(made, shares);
  }
  queue.favour({0, 9});
  CHECK(numbers(queue.order(shares)) == std::vector<uint64_t>{2, 4, 1, 3});
}

TEST_CASE("who has waited five seconds may reserve, or half of what he has") {
  FairShare shares(1000);
  Queue queue;
  queue.push(waiter(1, Priority::kNormal, 60'000), shares);
  CHECK(queue.next_to_reserve(shares, kNow + milliseconds(4999), open(0b1)) == nullptr);
  REQUIRE(queue.next_to_reserve(shares, kNow + milliseconds(5000), open(0b1)) != nullptr);
  queue.push(waiter(2, Priority::kNormal, 1000), shares);
  REQUIRE(queue.next_to_reserve(shares, kNow + milliseconds(500), open(0b1)) != nullptr);
  CHECK(queue.next_to_reserve(shares, kNow + milliseconds(500), open(0b1))->id == id_of(2));
  CHECK(queue.next_deadline(kNow) == kNow + milliseconds(500));
}

TEST_CASE("the oldest of the priority whose turn it is reserves, not the oldest of all") {
  FairShare shares(1000);
  Queue queue;
  shares.begin(id_of(100), Priority::kBatch, 100, milliseconds(1000), kNow);
  queue.push(waiter(1, Priority::kBatch, 60'000, kNow - milliseconds(30'000)), shares);
  queue.push(waiter(2, Priority::kNormal, 60'000, kNow - milliseconds(6000)), shares);
  queue.push(waiter(3, Priority::kNormal, 20'000, kNow - milliseconds(7000)), shares);
  // They wait for the first time, so batch is ahead of what normal had.
  shares.begin(id_of(101), Priority::kBatch, 100, milliseconds(1000), kNow);
  CHECK(queue.next_to_reserve(shares, kNow, open(0b1))->id == id_of(3));
  queue.reserve(id_of(3), 0b1, kNow);
  CHECK(queue.reserved_gpus() == 0b1);
  CHECK(queue.next_to_reserve(shares, kNow, open(0b10))->id == id_of(2));
  CHECK(queue.next_to_reserve(shares, kNow, open(0)) == nullptr);
  queue.remove(id_of(3));
  CHECK(queue.reserved(0) == nullptr);
}

TEST_CASE("who needs two GPUs reserves two or none") {
  FairShare shares(1000);
  Queue queue;
  Waiter two = waiter(1, Priority::kNormal);
  two.gpu_count = 2;
  queue.push(two, shares);
  CHECK(queue.next_to_reserve(shares, kNow + milliseconds(6000), open(0b1)) == nullptr);
  CHECK(queue.next_to_reserve(shares, kNow + milliseconds(6000), open(0b101)) == nullptr);
  CHECK(queue.next_to_reserve(shares, kNow + milliseconds(6000), open(0b11)) != nullptr);
}

TEST_CASE("the queue has an end, nobody waits for ever, and who ran out of time is out") {
  FairShare shares(1000);
  Queue queue;
  Waiter patient = waiter(0, Priority::kNormal);
  patient.deadline = kNever;
  queue.push(patient, shares);
  CHECK(queue.find(id_of(0))->deadline == kNow + milliseconds(bounds::wait_ms_max));
  for (uint64_t i = 1; i < bounds::waiters_max; ++i) REQUIRE(queue.push(waiter(i, Priority::kBatch, 1000), shares));
  CHECK_FALSE(queue.push(waiter(9999, Priority::kBatch), shares));
  std::vector<Waiter> expired;
  queue.expire(kNow + milliseconds(1000), expired);
  CHECK(expired.size() == bounds::waiters_max - 1);
  CHECK(queue.size() == 1);
}

TEST_CASE("a short one may go first, a long one only beside, and who steps back always") {
  const Instant end = kNow + milliseconds(10'000);
  std::vector<ExpectedEnd> ends = {{end, 80}, {end + milliseconds(5000), 500}};
  const Shadow shadow = shadow_of(100, 30, ends, kNow);
  CHECK(shadow.at == end);
  CHECK(shadow.spare == 10);
  CHECK(may_backfill({30, milliseconds(10'000), false}, shadow, kNow));
  CHECK_FALSE(may_backfill({30, milliseconds(10'001), false}, shadow, kNow));
  CHECK_FALSE(may_backfill({30, Duration{}, false}, shadow, kNow));
  CHECK(may_backfill({10, Duration{}, false}, shadow, kNow));
  CHECK(may_backfill({30, Duration{}, true}, shadow, kNow));
}

TEST_CASE("a hold that nobody knows the end of may end at once, and is never counted on") {
  std::vector<ExpectedEnd> ends = {{kNever, 90}, {kNow - milliseconds(1), 90}, {kNow + milliseconds(9000), 20}};
  const Shadow shadow = shadow_of(100, 10, ends, kNow);
  CHECK(shadow.at == kNow);
  CHECK(shadow.spare == 0);
  CHECK_FALSE(may_backfill({5, milliseconds(1), false}, shadow, kNow));
}

// One card, always more asked for than there is: shares settle at the weights, however long and large the holds are.
TEST_CASE("under saturation each priority gets byte-seconds by its weight") {
  struct Held {
    LeaseId id;
    Priority priority;
    Units units;
    Instant since;
    Instant until;
  };
  Prng prng(77);
  constexpr Units kCapacity = 1000;
  FairShare shares(kCapacity);
  Queue queue;
  std::vector<Held> held;
  std::array<double, kPriorities> had{};
  uint64_t number = 0;
  Units free = kCapacity;
  Instant now = kNow;
  for (int turn = 0; turn < 20'000; ++turn) {
    for (uint8_t p = 0; p < kPriorities; ++p) {
      while (queue.waiting(static_cast<Priority>(p)) < 5) {
        Waiter made = waiter(++number, static_cast<Priority>(p), 300'000, now);
        made.ask = static_cast<Units>(1 + prng.below(p == 3 ? 400 : 100));
        queue.push(made, shares);
      }
    }
    shares.advance(now);
    for (const Waiter* next = queue.order(shares)[0]; next->ask <= free; next = queue.order(shares)[0]) {
      const Waiter taken = *queue.remove(next->id);
      const auto hold_ms = static_cast<int64_t>(100 + prng.below(taken.priority == Priority::kCritical ? 500 : 9000));
      shares.begin(taken.id, taken.priority, taken.ask, milliseconds(bounds::hold_hint_ms), now);
      held.push_back({taken.id, taken.priority, taken.ask, now, now + milliseconds(hold_ms)});
      free -= taken.ask;
      if (queue.waiting(taken.priority) == 0) break;
    }
    const auto first =
        std::min_element(held.begin(), held.end(), [](const Held& a, const Held& b) { return a.until < b.until; });
    now = first->until;
    had[static_cast<size_t>(first->priority)] +=
        static_cast<double>(first->units) * std::chrono::duration<double>(now - first->since).count();
    free += first->units;
    shares.end(first->id, now);
    held.erase(first);
  }
  double sum = 0;
  double squares = 0;
  for (size_t i = 0; i < kPriorities; ++i) {
    const double weighted = had[i] / kPriorityWeights[i];
    sum += weighted;
    squares += weighted * weighted;
  }
  CHECK(sum * sum / (kPriorities * squares) >= 0.99);
}

}  // namespace
}  // namespace mesh::gpu
