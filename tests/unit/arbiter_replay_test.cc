// What the arbiter makes of a card, against hard pools and against one pool with the least recently used evicted first:
// the same requests for models on a virtual clock. tools/bench/gpu tells more of it.
#include <doctest/doctest.h>

#include <sstream>
#include <stdexcept>
#include <string>

#include "common/gpu/bounds.h"
#include "tools/bench/vram_lenders.h"

namespace mesh::bench {
namespace {

constexpr gpu::Units kCard = gpu::units_of(12 * gpu::kGiB);

TEST_CASE("more of the card is of use than with hard pools, waits are shorter, and less is loaded than with LRU") {
  constexpr VramLender kWho[] = {VramLender::kHardPools, VramLender::kByteLru, VramLender::kArbiter};
  struct Sum {
    double resident_mean = 0;
    double wait_mean_s = 0;
    double wait_p99_s = 0;
    uint64_t loads = 0;
    double load_s = 0;
  } all[3];
  constexpr int kSeeds = 3;
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    const VramTrace trace = made_trace({.seed = seed});
    for (size_t i = 0; i < 3; ++i) {
      const VramOutcome outcome = replay(kWho[i], trace, {{kCard}, {}});
      REQUIRE(outcome.waits_s.size() == trace.uses.size());
      CHECK(outcome.held_max[0] <= kCard - gpu::bounds::emergency_units);
      all[i].resident_mean += outcome.resident_mean / kSeeds;
      all[i].wait_mean_s += outcome.wait_mean_s / kSeeds;
      all[i].wait_p99_s += outcome.wait_s(0.99) / kSeeds;
      all[i].loads += outcome.loads;
      all[i].load_s += outcome.load_s;
    }
  }
  for (size_t i = 0; i < 3; ++i) {
    MESSAGE(std::string(name_of(kWho[i])), ": resident ", all[i].resident_mean, ", wait mean ", all[i].wait_mean_s,
            " s, p99 ", all[i].wait_p99_s, " s, loads ", all[i].loads, ", load seconds ", all[i].load_s);
  }
  const auto& [hard, lru, own] = all;
  CHECK(own.resident_mean >= 1.25 * hard.resident_mean);
  CHECK(own.wait_p99_s <= hard.wait_p99_s / 3);
  CHECK(static_cast<double>(own.loads) <= 0.9 * static_cast<double>(lru.loads));
  CHECK(own.load_s <= lru.load_s);
}

TEST_CASE("where a model is resident at another host, its requests go there for less than loading it costs") {
  std::istringstream lines("0 0 1000 900 100 0\n5000 0 1000 900 100 1\n5000 0 1000 900 100 0\n");
  const VramTrace trace = read_vram_trace(lines, 2);
  const VramTerms terms{{kCard, kCard}, milliseconds(2)};
  const VramOutcome outcome = replay(VramLender::kArbiter, trace, terms);
  CHECK(outcome.loads == 1);
  CHECK(outcome.remote == 1);
  CHECK(outcome.waits_s == std::vector<double>{0, 0.002, 0.9});
}

TEST_CASE("who asks for a model that somebody waits for at another host waits for the same load") {
  std::istringstream lines(
      "0 0 5000 900 9000 0\n0 1 5000 900 9000 1\n"  // both cards are full, and in use
      "1000 2 3000 900 100 0\n1100 2 3000 900 100 1\n");
  const VramTrace trace = read_vram_trace(lines, 2);
  const VramOutcome outcome = replay(VramLender::kArbiter, trace, {{kCard, kCard}, milliseconds(2)});
  CHECK(outcome.loads == 3);
  CHECK(outcome.remote == 1);
}

TEST_CASE("hard pools refuse what is larger than the largest, and all others serve it") {
  std::istringstream lines("0 0 3000 900 100 0\n10 0 3000 900 100 0\n");
  const VramTrace trace = read_vram_trace(lines, 1);
  for (const VramLender lender : kVramLenders) {
    const VramOutcome outcome = replay(lender, trace, {{kCard}, {}});
    CHECK(outcome.refused == (lender == VramLender::kHardPools ? 2 : 0));
    CHECK(outcome.waits_s.size() + outcome.refused == 2);
  }
}

TEST_CASE("a line that is none, or out of order, is told and not replayed") {
  for (const char* wrong : {"", "0 0 1000", "0 0 0 1 1 0\n", "10 0 1 1 1 0\n5 0 1 1 1 0\n", "0 0 1 -1 1 0\n", "x\n"}) {
    std::istringstream lines{std::string(wrong)};
    CHECK_THROWS_AS(read_vram_trace(lines, 1), std::invalid_argument);
  }
}

}  // namespace
}  // namespace mesh::bench
