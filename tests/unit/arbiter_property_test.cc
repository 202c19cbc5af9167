#include <cstdlib>

#include "tests/unit/arbiter_world.h"

namespace mesh::arbiter {
namespace {

// MESH_ARBITER_EVENTS=1000000 for the long run, MESH_ARBITER_SEED=100 for another one.
uint64_t number_in(const char* variable, uint64_t otherwise) {
  const char* asked = std::getenv(variable);
  return asked != nullptr ? std::strtoull(asked, nullptr, 10) : otherwise;
}
uint64_t events() { return number_in("MESH_ARBITER_EVENTS", 100'000); }
// Added to every seed.
uint64_t other_seeds() { return number_in("MESH_ARBITER_SEED", 0); }

TEST_CASE("whatever happens, the books agree, nothing is granted twice and nothing is forgotten") {
  WorldTerms terms;
  terms.is_honest = false;
  terms.foreign_max = 1500;
  terms.restarts = true;
  terms.has_failures = true;
  terms.has_go_betweens = true;
  terms.has_heat = true;
  for (const uint64_t seed : {1, 2, 3, 4}) {
    World world(terms, seed + other_seeds());
    for (uint64_t i = 0; i < events() / 4; ++i) world.step();
    CHECK(world.grants > events() / 200);
    CHECK(world.yields > 0);
    CHECK(world.signals > 0);
    CHECK(world.restarts > 0);
    CHECK(world.segments_shared > 0);
    CHECK(world.left_behind > 0);
    CHECK(world.begun > 0);
    world.end();
  }
}

TEST_CASE("where samples tell no processes apart, whoever is honest is served as well") {
  WorldTerms terms;
  terms.sees_processes = false;
  for (const uint64_t seed : {1, 2}) {
    World world(terms, seed + other_seeds());
    for (uint64_t i = 0; i < events() / 4; ++i) world.step();
    CHECK(world.grants > events() / 200);
    world.end();
  }
}

TEST_CASE("who reserved waits no longer than the longest hold, and the time that victims take") {
  for (const bool is_firm : {false, true}) {
    WorldTerms terms;
    terms.is_firm = is_firm;
    terms.pause_ms = 1000;
    World world(terms, 5 + other_seeds());
    for (uint64_t i = 0; i < events() / 2; ++i) world.step();
    const Duration victims = milliseconds(2 * gpu::bounds::ack_ms + gpu::bounds::eta_ms_max + 2000);
    CHECK(world.longest_reserved > Duration{});
    CHECK(world.longest_reserved <= milliseconds(terms.hold_ms_max + 1500) + victims);
    MESSAGE("longest wait with a reservation: ", to_us(world.longest_reserved) / 1000, " ms");
  }
}

TEST_CASE("under saturation each priority gets byte-seconds by its weight, whether or not holders can be asked back") {
  for (const bool is_firm : {true, false}) {
    WorldTerms terms;
    terms.is_firm = is_firm;
    terms.is_saturated = true;
    terms.sees_processes = false;
    terms.agents = 64;
    terms.pause_ms = 2000;
    World world(terms, 6 + other_seeds());
    for (uint64_t i = 0; i < events() / 2; ++i) world.step();
    double sum = 0;
    double squares = 0;
    for (size_t i = 0; i < gpu::kPriorities; ++i) {
      const double weighted = world.unit_seconds[i] / gpu::kPriorityWeights[i];
      sum += weighted;
      squares += weighted * weighted;
      MESSAGE(to_string(static_cast<Priority>(i)), ": ", weighted);
    }
    const double jain = sum * sum / (gpu::kPriorities * squares);
    MESSAGE("Jain's index: ", jain);
    CHECK(jain >= 0.95);
  }
}

}  // namespace
}  // namespace mesh::arbiter
