// Breaks from computing on a card that is hot.
#include <array>

#include "tests/unit/arbiter_desk.h"

namespace mesh::arbiter {
namespace {

constexpr int64_t kStepMs = 50;

struct Plant {
  double peak_c = 0;
  double mean_c = 0;  // of the last half
  int64_t longest_wait_ms = 0;
  int fluttered = 0;
  double computed = 0;  // share of the time, of the last half
};

// A card as a resistor and a capacitor of heat, on which three agents would compute all the time, in stretches of
// `stretch_ms`, for an hour.
Plant run(bool waits, int64_t stretch_ms, Priority priority = Priority::kNormal) {
  constexpr double kRoom_c = 25;
  constexpr double kFullPower_c = 70;  // above the room, if it computes all the time
  constexpr double kSeconds = 60;      // to get two thirds of the way there
  constexpr int64_t kEndMs = 3'600'000;
  struct Agent {
    bool is_waiting = false;
    int64_t since_ms = 0;
  };
  Desk desk(cards({12 * kGiBUnits}));
  std::array<Agent, 3> agents{};
  for (uint64_t who = 1; who <= agents.size(); ++who) {
    gpu::Request request = desk.request(100);
    request.priority = priority;
    desk.hold(who, who, request);
  }
  Plant plant;
  double celsius = kRoom_c;
  gpu::Band band = gpu::Band::kCool;
  int64_t changed_ms = -100'000;
  for (int64_t ms = 0; ms < kEndMs; ms += kStepMs) {
    desk.wait(kStepMs);
    for (uint64_t who = 1; who <= agents.size(); ++who) {
      Agent& agent = agents[who - 1];
      const Entry& entry = desk.engine.entries().at(id_of(who));
      if (agent.is_waiting && !entry.begins_by) {
        plant.longest_wait_ms = std::max(plant.longest_wait_ms, ms - agent.since_ms);
        agent = {false, ms};
      }
      const bool is_through = entry.lease.in_use && !agent.is_waiting && ms - agent.since_ms >= stretch_ms;
      if (entry.lease.in_use && !is_through) continue;
      if (is_through) desk.tell(LeaseUsed{desk.name(who, who), false});
      desk.tell(LeaseUsed{desk.name(who, who), true, waits});
      agent = {entry.begins_by.has_value(), ms};
    }
    const bool is_computing =
        std::any_of(agents.begin(), agents.end(), [](const Agent& agent) { return !agent.is_waiting; });
    celsius += (kRoom_c + (is_computing ? kFullPower_c : 0) - celsius) * kStepMs / 1000 / kSeconds;
    plant.peak_c = std::max(plant.peak_c, celsius);
    if (2 * ms >= kEndMs) {
      plant.mean_c += celsius * 2 * kStepMs / kEndMs;
      plant.computed += is_computing ? 2.0 * kStepMs / kEndMs : 0;
    }
    if (ms % 1000 == 0) desk.tell(GpuSampled{.has_heat = true, .celsius = celsius});
    if (desk.engine.gpus()[0].thermal.band() == band) continue;
    band = desk.engine.gpus()[0].thermal.band();
    plant.fluttered += ms - changed_ms < 10'000;
    changed_ms = ms;
  }
  return plant;
}

TEST_CASE(
    "a hot card peaks five degrees lower where those who compute take breaks, and nobody waits longer than two s") {
  const Plant without = run(false, 300);
  for (const int64_t stretch_ms : {100, 300, 1000}) {
    const Plant with = run(true, stretch_ms);
    MESSAGE(stretch_ms, " ms: peak ", with.peak_c, " instead of ", without.peak_c, ", mean ", with.mean_c,
            " instead of ", without.mean_c, ", computes ", with.computed, ", longest wait ", with.longest_wait_ms,
            " ms");
    CHECK(without.peak_c - with.peak_c >= 5);
    CHECK(with.longest_wait_ms > 0);
    CHECK(with.longest_wait_ms <= 2000 + 2 * kStepMs);
    CHECK(with.fluttered == 0);
  }
}

TEST_CASE("who is interactive or critical never waits for a card to cool down") {
  for (const Priority priority : {Priority::kCritical, Priority::kInteractive}) {
    const Plant plant = run(true, 300, priority);
    CHECK(plant.longest_wait_ms == 0);
    CHECK(plant.computed == doctest::Approx(1));
  }
}

TEST_CASE(
    "who waits to compute is as good as in use, hears of it when it ends, and does not begin on a cool card late") {
  Desk desk(cards({12 * kGiBUnits}));
  desk.hold(1, 1, desk.request(100));
  desk.hold(2, 2, desk.request(100));
  desk.tell(LeaseUsed{desk.name(1, 1), true, true});
  CHECK_FALSE(desk.engine.entries().at(id_of(1)).begins_by);
  desk.tell(GpuSampled{.has_heat = true, .celsius = 84});
  desk.wait(1000);
  desk.tell(LeaseUsed{desk.name(2, 2), true, true});
  const Entry& waiting = desk.engine.entries().at(id_of(2));
  REQUIRE(waiting.begins_by);
  CHECK(waiting.lease.in_use);
  desk.tell(LeaseUsed{desk.name(2, 2), false});
  CHECK(desk.find<SendBegin>(2) != nullptr);
  desk.tell(LeaseUsed{desk.name(2, 2), true, true});
  desk.tell(LeaseReleased{desk.name(2, 2)});
  CHECK(desk.find<SendBegin>(2) != nullptr);
  desk.tell(LeaseUsed{desk.name(1, 1), true});  // who does not wait is not kept
  CHECK_FALSE(desk.engine.entries().at(id_of(1)).begins_by);
}

}  // namespace
}  // namespace mesh::arbiter
