#include <doctest/doctest.h>

#include <algorithm>

#include "common/base/prng.h"
#include "common/gpu/ladder.h"
#include "common/gpu/reclaim.h"
#include "common/gpu/thrash.h"

namespace mesh::gpu {
namespace {

const Instant kNow{milliseconds(1'000'000)};
constexpr ClassUnits kNoFloors = {1 << 20, 1 << 20, 1 << 20, 1 << 20};

LeaseId id_of(uint64_t number) { return {number, number}; }

Candidate candidate(uint64_t number, Units units, double cost, bool in_use = false) {
  return {id_of(number), units, class_of(units), cost, in_use};
}

const Candidate& of(const std::vector<Candidate>& all, LeaseId id) {
  return *std::find_if(all.begin(), all.end(), [id](const Candidate& each) { return each.id == id; });
}

TEST_CASE("what is small, dear to load or often used is worth more per GiB, and age catches up with it") {
  Worth worth;
  const double once = worth.score(1, milliseconds(4000), 1, units_of(kGiB));
  CHECK(worth.score(3, milliseconds(4000), 1, units_of(kGiB)) > once);
  CHECK(worth.score(1, milliseconds(9000), 1, units_of(kGiB)) > once);
  CHECK(worth.score(1, milliseconds(4000), 8, units_of(kGiB)) > once);
  CHECK(worth.score(1, milliseconds(4000), 1, units_of(4 * kGiB)) < once);
  CHECK(worth.cost(once, units_of(kGiB)) == doctest::Approx(4));
  worth.evicted(3);
  worth.evicted(2);  // age never goes back
  CHECK(worth.age() == 3);
  CHECK(worth.cost(once, units_of(kGiB)) == doctest::Approx(1));
  CHECK(worth.score(1, milliseconds(4000), 1, units_of(kGiB)) > once);
}

TEST_CASE("one that suffices goes instead of many with lower scores") {
  const std::vector<Candidate> all = {candidate(1, 10, 0.9), candidate(2, 10, 0.9), candidate(3, 10, 0.9),
                                      candidate(4, 25, 2.5)};
  const auto victims = choose_victims(25, all, kNoFloors);
  REQUIRE(victims);
  CHECK(victims->ids == std::vector<LeaseId>{id_of(4)});
}

TEST_CASE("one in use goes only where all others are not enough") {
  std::vector<Candidate> all = {candidate(1, 10, 100), candidate(2, 10, 100), candidate(3, 30, 0.1, true)};
  const auto enough = choose_victims(20, all, kNoFloors);
  REQUIRE(enough);
  CHECK(enough->ids.size() == 2);
  const auto beyond = choose_victims(21, all, kNoFloors);
  REQUIRE(beyond);
  // The one in use alone is enough then: the others need not go, too.
  CHECK(beyond->ids == std::vector<LeaseId>{id_of(3)});
  CHECK_FALSE(choose_victims(51, all, kNoFloors));
}

TEST_CASE("a class keeps its floor, and others make up for it") {
  ClassUnits evictable = kNoFloors;
  evictable[static_cast<size_t>(SizeClass::kSmall)] = 100;
  const std::vector<Candidate> all = {candidate(1, 90, 0.1), candidate(2, 90, 0.1), candidate(3, 400, 500)};
  const auto victims = choose_victims(150, all, evictable);
  REQUIRE(victims);
  CHECK(victims->ids == std::vector<LeaseId>{id_of(3)});
  CHECK_FALSE(choose_victims(491, all, evictable));
  CHECK(choose_victims(490, all, evictable));
}

struct Best {
  double used = -1;  // the least cost of those in use
  double idle = -1;  // and then of the others
};

// All sets there are. Of two the one with the lower cost in use is better, then the one with the lower cost.
Best brute_force(Units need, const std::vector<Candidate>& all, const ClassUnits& evictable) {
  Best best;
  for (uint32_t set = 0; set < (1U << all.size()); ++set) {
    Units units = 0;
    ClassUnits classes{};
    Best cost{0, 0};
    for (size_t i = 0; i < all.size(); ++i) {
      if ((set >> i & 1) == 0) continue;
      units += all[i].units;
      classes[static_cast<size_t>(all[i].size)] += all[i].units;
      (all[i].in_use ? cost.used : cost.idle) += all[i].cost;
    }
    bool fits = units >= need;
    for (size_t i = 0; i < kSizeClasses; ++i) fits = fits && classes[i] <= evictable[i];
    if (!fits) continue;
    if (best.used < 0 || cost.used < best.used || (cost.used == best.used && cost.idle < best.idle)) best = cost;
  }
  return best;
}

TEST_CASE("victims cost within a tenth of the best there are, and none is superfluous") {
  Prng prng(9);
  int chosen = 0;
  for (int round = 0; round < 2000; ++round) {
    std::vector<Candidate> all;
    const size_t count = 1 + prng.below(12);
    Units sum = 0;
    for (size_t i = 0; i < count; ++i) {
      const Units units = static_cast<Units>(1 + prng.below(round % 2 == 0 ? 100 : 3000));
      all.push_back(candidate(i, units, static_cast<double>(1 + prng.below(1000)) / 10));
      sum += units;
    }
    ClassUnits evictable = kNoFloors;
    if (round % 3 == 0) evictable[0] = static_cast<Units>(prng.below(200));
    const Units need = static_cast<Units>(1 + prng.below(static_cast<uint64_t>(sum)));
    const Best best = brute_force(need, all, evictable);
    const auto victims = choose_victims(need, all, evictable);
    REQUIRE(victims.has_value() == (best.idle >= 0));
    if (!victims) continue;
    ++chosen;
    REQUIRE(victims->units >= need);
    REQUIRE(victims->cost <= 1.1 * best.idle + 1e-9);
    for (const LeaseId id : victims->ids) REQUIRE(victims->units - of(all, id).units < need);
  }
  CHECK(chosen > 1000);
}

TEST_CASE("with some in use, those cost within a tenth of the least, and are none if none need be") {
  Prng prng(10);
  for (int round = 0; round < 1000; ++round) {
    std::vector<Candidate> all;
    const size_t count = 1 + prng.below(12);
    Units sum = 0;
    for (size_t i = 0; i < count; ++i) {
      const Units units = static_cast<Units>(1 + prng.below(3000));
      all.push_back(candidate(i, units, static_cast<double>(1 + prng.below(1000)) / 10, prng.below(2) == 0));
      sum += units;
    }
    const Units need = static_cast<Units>(1 + prng.below(static_cast<uint64_t>(sum)));
    const Best best = brute_force(need, all, kNoFloors);
    const auto victims = choose_victims(need, all, kNoFloors);
    REQUIRE(victims);
    double used = 0;
    for (const LeaseId id : victims->ids) used += of(all, id).in_use ? of(all, id).cost : 0;
    REQUIRE(used <= 1.1 * best.used + 1e-9);
    for (const LeaseId id : victims->ids) REQUIRE(victims->units - of(all, id).units < need);
  }
}

TEST_CASE("who does as it says is asked once") {
  Ladder ladder(Revocability::kRelease, 100, kNow);
  CHECK(ladder.how() == YieldHow::kRelease);
  CHECK(ladder.acknowledged(milliseconds(5000), kNow) == Rung::kWait);
  CHECK(ladder.deadline() == kNow + milliseconds(5000));
  ladder.done(true);
  CHECK(ladder.on_time(kNow + milliseconds(90'000)) == Rung::kWait);
}

TEST_CASE("who does not answer is asked twice, and then keeps what it has, unless it agreed to be ended") {
  for (const Revocability agreed : {Revocability::kTrim, Revocability::kOffload, Revocability::kRelease}) {
    Ladder ladder(agreed, 100, kNow);
    CHECK(ladder.on_time(ladder.deadline() - microseconds(1)) == Rung::kWait);
    CHECK(ladder.on_time(ladder.deadline()) == Rung::kAsk);
    CHECK(ladder.on_time(ladder.deadline()) == Rung::kGiveUp);
    CHECK(ladder.deadline() == kNever);
  }
}

TEST_CASE("who agreed to be ended is ended, at last by the signal that nobody survives, and once") {
  Ladder ladder(Revocability::kKill, 100, kNow);
  Instant now = kNow;
  std::vector<Rung> rungs;
  while (ladder.deadline() != kNever) {
    now = ladder.deadline();
    rungs.push_back(ladder.on_time(now));
  }
  CHECK(rungs == std::vector<Rung>{Rung::kAsk, Rung::kTerminate, Rung::kKill});
  CHECK(now - kNow <= milliseconds(2 * bounds::ack_ms + bounds::term_ms));
}

TEST_CASE("an eta is no promise to wait for ever") {
  Ladder ladder(Revocability::kRelease, 100, kNow);
  ladder.acknowledged(milliseconds(1'000'000), kNow);
  CHECK(ladder.deadline() == kNow + milliseconds(bounds::eta_ms_max));
  ladder.acknowledged(milliseconds(1'000'000), kNow + milliseconds(9000));  // saying so again gains nothing
  CHECK(ladder.deadline() == kNow + milliseconds(bounds::eta_ms_max));
}

TEST_CASE("who says it is done is not signalled for want of a sample, and asked again where one shows it is not") {
  Ladder ladder(Revocability::kKill, 100, kNow);
  ladder.acknowledged({}, kNow);
  ladder.done(false);
  CHECK(ladder.is_to_be_seen());
  CHECK(ladder.on_time(kNow + milliseconds(900'000)) == Rung::kWait);
  CHECK(ladder.refused(kNow + milliseconds(900'000)) == Rung::kAsk);
  CHECK_FALSE(ladder.is_to_be_seen());
  CHECK(ladder.refused(kNow + milliseconds(900'100)) == Rung::kTerminate);
}

TEST_CASE("a model thrashes when it came back twice within a minute, each time after it went") {
  Ghosts ghosts;
  const ModelKey model{1, 1};
  ghosts.requested(model, kNow);
  ghosts.evicted(model, kNow);
  ghosts.requested(model, kNow + milliseconds(1000));
  ghosts.requested(model, kNow + milliseconds(2000));  // it did not go in between
  CHECK_FALSE(ghosts.is_thrashing(model, kNow + milliseconds(2000)));
  CHECK(ghosts.residency(model, milliseconds(9000), kNow + milliseconds(2000)) == Duration{});
  ghosts.evicted(model, kNow + milliseconds(3000));
  ghosts.requested(model, kNow + milliseconds(4000));
  const Instant then = kNow + milliseconds(5000);
  CHECK(ghosts.is_thrashing(model, then));
  CHECK(ghosts.residency(model, milliseconds(9000), then) == milliseconds(27'000));
  CHECK(ghosts.residency(model, milliseconds(10), then) == milliseconds(10'000));
  CHECK(ghosts.factor(model, then) > 1);
  CHECK_FALSE(ghosts.is_thrashing(model, kNow + milliseconds(61'000)));
}

TEST_CASE("a return after more than a minute is none, no model is no ghost, and ghosts are bounded") {
  Ghosts ghosts;
  ghosts.evicted({}, kNow);
  CHECK(ghosts.size() == 0);
  const ModelKey model{1, 1};
  for (int i = 0; i < 3; ++i) {
    ghosts.evicted(model, kNow + milliseconds(i * 61'000));
    ghosts.requested(model, kNow + milliseconds(i * 61'000 + 60'000));
  }
  CHECK_FALSE(ghosts.is_thrashing(model, kNow + milliseconds(182'000)));
  for (uint64_t i = 0; i < 1000; ++i) ghosts.evicted({i, 5}, kNow);
  CHECK(ghosts.size() == bounds::ghosts_max);
}

TEST_CASE("a card is swapped once a minute, then others are better off elsewhere") {
  SwapBudget budget(1000);
  CHECK(budget.allows(1000, kNow));
  budget.spend(600, kNow);
  CHECK_FALSE(budget.allows(401, kNow + milliseconds(59'999)));
  CHECK(budget.allows(400, kNow + milliseconds(59'999)));
  CHECK(budget.allows(1000, kNow + milliseconds(60'000)));
}

}  // namespace
}  // namespace mesh::gpu
