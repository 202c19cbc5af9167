// Sidecars that are told to go.

#include <doctest/doctest.h>

#include <string>

#include "common/base/limits.h"
#include "tests/sim/world.h"

namespace mesh::sim {
namespace {

TEST_CASE("a drain answers what was accepted and then ends") {
  World world;
  world.agent.echoes = false;
  const auto caller = world.caller();
  caller->ask("x");
  world.network.run_for(milliseconds(100));
  world.a.drain();
  world.network.run_for(milliseconds(100));
  CHECK_FALSE(world.a.drained);
  world.agent.answer("done");
  world.network.run_for(milliseconds(100));
  CHECK(caller->replies == std::vector<std::string>{"done"});
  CHECK(world.a.drained);
}

TEST_CASE("a call that is under way while its sidecar goes is answered, and a silent peer is not waited for long") {
  World world;
  const auto caller = world.caller();
  caller->ask("warm");
  world.network.run_for(milliseconds(100));
  caller->ask("under way");
  world.network.run_for(microseconds(120));  // it has left a, and not come to b
  world.b.drain();
  world.network.run_for(microseconds(10));
  CHECK_FALSE(world.b.drained);
  world.network.run_for(milliseconds(20));
  CHECK(world.b.drained);
  REQUIRE(caller->replies.size() == 2);
  CHECK(has_code(caller->replies[1], "DRAINING"));

  World cut;
  const auto other = cut.caller();
  other->ask("warm");
  cut.network.run_for(milliseconds(100));
  cut.network.cut = {{1, 2}, {2, 1}};
  cut.b.drain();
  cut.network.run_for(milliseconds(1000));
  CHECK_FALSE(cut.b.drained);
  cut.network.run_for(milliseconds(1000));
  CHECK(cut.b.drained);
}

TEST_CASE("who is about to connect when its peer is told to go learns of it before it asks") {
  for (int64_t at_ms = 10; at_ms < 200; at_ms += 5) {
    World world;
    world.network.delay = milliseconds(20);
    const auto caller = world.caller();
    world.network.run_for(milliseconds(50));
    caller->ask("first");  // the link is made for it
    world.network.run_for(milliseconds(at_ms));
    world.b.drain();
    for (int i = 0; i < 100 && !world.b.drained; ++i) world.network.run_for(milliseconds(20));
    REQUIRE(world.b.drained);
    world.b.kill();
    world.network.run_for(milliseconds(2000));
    REQUIRE(caller->replies.size() == 1);
    CAPTURE(at_ms);
    CHECK_FALSE(has_code(caller->replies[0], "OUTCOME_UNKNOWN"));
    CHECK(world.agent.asked.size() == (caller->replies[0] == "first" ? 1 : 0));
  }
}

TEST_CASE("an answer that comes on another connection than was asked on is read before a drain ends") {
  World world;
  const auto caller = world.caller();
  const std::string large(limits::bulk_body_bytes + 1000, 'x');
  caller->ask(large);  // both connections are there now
  world.network.run_for(milliseconds(100));
  world.agent.echoes = false;
  caller->ask("small");
  world.network.run_for(milliseconds(10));
  world.network.bytes_per_second = 1'000'000;
  world.b.drain();
  world.agent.answer(large);
  world.network.run_for(milliseconds(50));
  CHECK_FALSE(world.b.drained);
  world.network.run_for(milliseconds(500));
  CHECK(world.b.drained);
  CHECK(caller->replies == std::vector<std::string>{large, large});
}

TEST_CASE("a peer that takes in slowly what it was answered is waited for longer than one that is silent") {
  World world;
  const auto caller = world.caller();
  const std::string large(limits::bulk_body_bytes + 1000, 'x');
  caller->ask(large);
  world.network.run_for(milliseconds(100));
  world.agent.echoes = false;
  caller->ask("small");
  world.network.run_for(milliseconds(10));
  world.network.piece_bytes = 2000;
  world.network.bytes_per_second = 50'000;
  world.b.drain();
  world.agent.answer(large);
  world.network.run_for(milliseconds(limits::farewell_ms + 300));
  CHECK_FALSE(world.b.drained);
  world.network.run_for(milliseconds(3000));
  CHECK(world.b.drained);
  CHECK(caller->replies == std::vector<std::string>{large, large});
}

}  // namespace
}  // namespace mesh::sim
