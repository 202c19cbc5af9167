// Two sidecars, down to their bytes, on a virtual network and a virtual clock.

#include <doctest/doctest.h>

#include <deque>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "common/base/limits.h"
#include "tests/sim/world.h"

namespace mesh::sim {
namespace {

using proxy::Counter;

TEST_CASE("a body of any size goes through two sidecars and comes back, whatever the pieces it arrives in") {
  for (const size_t piece : {1, 3, 100, 70'000}) {
    World world;
    world.network.piece_bytes = piece;
    const auto caller = world.caller();
    for (const size_t size : {0, 1, 255, 256, 8192, 8193, 66'000}) {
      if (piece < 100 && size > 300) continue;  // a byte at a time takes its time
      const std::string body(size, 'x');
      caller->ask(body);
      world.network.run_for(milliseconds(4000));
      REQUIRE(caller->replies.size() == 1);
      CHECK(caller->replies[0] == body);
      caller->replies.clear();
    }
  }
}

TEST_CASE("a peer that dies with the call leaves OUTCOME_UNKNOWN, one that was never there NOT_SENT") {
  World world;
  world.agent.echoes = false;
  const auto caller = world.caller();
  caller->ask("x");
  world.network.run_for(milliseconds(50));
  REQUIRE(world.agent.asked.size() == 1);
  world.b.kill();
  world.network.run_for(milliseconds(50));
  REQUIRE(caller->replies.size() == 1);
  CHECK(has_code(caller->replies[0], "OUTCOME_UNKNOWN"));
  caller->ask("y");
  world.network.run_for(milliseconds(limits::connect_wait_ms + 20));
  REQUIRE(caller->replies.size() == 2);
  CHECK(has_code(caller->replies[1], "NOT_SENT"));
  world.b.start();
  world.network.run_for(milliseconds(2500));
  world.agent.echoes = true;
  caller->ask("z");
  world.network.run_for(milliseconds(500));
  REQUIRE(caller->replies.size() == 3);
  CHECK(caller->replies[2] == "z");
}

TEST_CASE("a call of which only a part had left is NOT_SENT when the link breaks, and the agent never sees it") {
  World world;
  const auto first = world.caller();
  first->ask("warm");
  world.network.run_for(milliseconds(20));
  world.network.window_bytes = 4096;
  const auto caller = world.caller();
  const uint64_t batches = world.a.count(Counter::kBatchesSent);
  caller->ask(std::string(100'000, 'x'));
  while (world.a.count(Counter::kBatchesSent) == batches) world.network.run_for(microseconds(10));
  world.b.kill();  // with the first 4 KiB
  world.network.run_for(milliseconds(1500));
  REQUIRE(caller->replies.size() == 1);
  CHECK(has_code(caller->replies[0], "NOT_SENT"));
  CHECK(world.agent.asked == std::vector<std::string>{"warm"});
}

TEST_CASE(
    "an agent that never answers costs its caller the budget and at most 50 ms more, wherever the call is stuck") {
  for (const bool link_cut : {false, true}) {
    World world;
    world.agent.echoes = false;
    const auto first = world.caller();
    const auto second = world.caller();
    first->ask("at the agent");
    second->ask("in the queue");
    world.network.run_for(milliseconds(20));
    if (link_cut) world.network.cut = {{1, 2}, {2, 1}};
    world.network.run_for(milliseconds(limits::dropin_budget_ms + 50));
    REQUIRE(first->replies.size() == 1);
    REQUIRE(second->replies.size() == 1);
    CHECK(has_code(first->replies[0], link_cut ? "OUTCOME_UNKNOWN" : "DEADLINE"));
    CHECK(has_code(second->replies[0], link_cut ? "OUTCOME_UNKNOWN" : "DEADLINE"));
    CHECK(world.agent.asked.size() == 1);
  }
}

TEST_CASE("a call waits for a peer that comes back in time, and is delivered once") {
  World world;
  world.b.kill();
  const auto caller = world.caller();
  caller->ask("patient");
  world.network.run_for(milliseconds(300));
  world.b.start();
  world.network.run_for(milliseconds(3000));
  REQUIRE(caller->replies.size() == 1);
  CHECK(caller->replies[0] == "patient");
  CHECK(world.agent.asked.size() == 1);
}

TEST_CASE("an idle link is asked every 15 s, closed after a minute, and opened again by the next call") {
  World world;
  const auto caller = world.caller();
  caller->ask("x");
  world.network.run_for(milliseconds(100));
  const uint64_t batches = world.a.count(Counter::kBatchesSent);
  world.network.run_for(std::chrono::seconds(59));
  CHECK(world.a.count(Counter::kBatchesSent) - batches == 3);
  CHECK(world.a.count(Counter::kLinksLost) == 0);
  world.network.run_for(std::chrono::seconds(20));
  CHECK(world.a.count(Counter::kLinksLost) == 1);
  caller->ask("again");
  world.network.run_for(milliseconds(100));
  CHECK(caller->replies.back() == "again");
}

TEST_CASE("a large request whose small reply comes on the other lane leaves no lane busy") {
  World world;
  const auto caller = world.caller();
  caller->ask("opens the interactive lane");
  world.network.run_for(milliseconds(50));
  world.agent.echoes = false;
  caller->ask(std::string(200'000, 'x'));
  world.network.run_for(milliseconds(200));
  world.agent.answer("small");
  world.network.run_for(milliseconds(100));
  REQUIRE(caller->replies.back() == "small");
  const uint64_t batches = world.a.count(Counter::kBatchesSent);
  world.network.run_for(std::chrono::seconds(50));
  CHECK(world.a.count(Counter::kBatchesSent) - batches <= 2 * 3);  // both lanes, every 15 s
  world.network.run_for(std::chrono::seconds(30));
  CHECK(world.a.count(Counter::kLinksOpened) == world.a.count(Counter::kLinksLost));
}

TEST_CASE("a REQ socket left waiting by the death of its sidecar is freed within 3 s, also if it was never read") {
  World world;
  world.agent.echoes = false;
  const auto read = world.caller();
  const auto unread = world.caller();
  world.network.run_for(milliseconds(100));
  read->ask("x");
  world.network.run_for(milliseconds(100));
  unread->ask("y");
  world.a.kill();
  world.network.run_for(milliseconds(50));
  world.a.start();
  for (Caller* caller : {read.get(), unread.get()}) caller->reconnect();
  world.network.run_for(milliseconds(2900));
  for (Caller* caller : {read.get(), unread.get()}) {
    REQUIRE(caller->replies.size() == 1);
    CHECK(has_code(caller->replies[0], "OUTCOME_UNKNOWN"));
  }
  CHECK(world.agent.asked == std::vector<std::string>{"x"});
}

TEST_CASE("a caller that stood still for half a minute while its sidecar was started anew is freed when it goes on") {
  World world;
  world.agent.echoes = false;
  const auto caller = world.caller();
  world.network.run_for(milliseconds(100));
  caller->ask("x");
  world.network.run_for(milliseconds(100));
  world.a.kill();
  world.a.start();
  world.network.run_for(milliseconds(30'000));
  caller->reconnect();
  world.network.run_for(milliseconds(2900));
  REQUIRE(caller->replies.size() == 1);
  CHECK(has_code(caller->replies[0], "OUTCOME_UNKNOWN"));
}

TEST_CASE("where no process was before nobody is taken for stuck, however long he is silent") {
  World world;
  const auto caller = world.caller();
  world.network.run_for(milliseconds(10'000));
  CHECK(caller->replies.empty());
  CHECK(world.a.count(Counter::kStuckPeersFreed) == 0);
}

TEST_CASE("whoever was freed may ask at once and is served, whether it had waited for something or not") {
  World world;
  const auto caller = world.caller();
  world.network.run_for(milliseconds(100));
  world.a.kill();
  world.a.start();
  caller->reconnect();
  while (caller->replies.empty()) world.network.run_for(microseconds(20));
  caller->ask("y");
  world.network.run_for(milliseconds(100));
  REQUIRE(caller->replies.size() == 2);
  CHECK(caller->replies[1] == "y");
  // Later ones may be silent as long as they like.
  world.network.run_for(milliseconds(61'000));
  const auto late = world.caller();
  world.network.run_for(milliseconds(9000));
  CHECK(late->replies.empty());
}

TEST_CASE("a request that crosses the error is not executed, and its socket is freed when it comes back") {
  World world;
  const auto caller = world.caller();
  world.network.run_for(milliseconds(100));
  world.a.kill();
  world.a.start();
  caller->reconnect();
  while (world.a.count(Counter::kStuckPeersFreed) == 0) world.network.run_for(microseconds(10));
  caller->ask("crossing");
  world.network.run_for(milliseconds(100));
  CHECK(world.agent.asked.empty());
  CHECK(caller->closed);
  caller->reconnect();
  world.network.run_for(milliseconds(2900));
  CHECK(has_code(caller->replies.back(), "OUTCOME_UNKNOWN"));
}

TEST_CASE("calls that waited behind a full link leave when it has room, although nothing more is asked") {
  World world;
  const auto large = world.caller();
  const auto small = world.caller();
  large->ask("warm");
  world.network.run_for(milliseconds(20));
  world.network.window_bytes = 4 * limits::KiB;
  const uint64_t batches = world.a.count(Counter::kBatchesSent);
  large->ask(std::string(100'000, 'x'));
  while (world.a.count(Counter::kBatchesSent) == batches) world.network.run_for(microseconds(10));
  small->ask("behind it");
  world.network.run_for(milliseconds(1000));
  CHECK(large->replies.size() == 2);
  CHECK(small->replies == std::vector<std::string>{"behind it"});
}

TEST_CASE(
    "a peer that goes silent with a call is found out within two seconds, from either direction, and serves again") {
  for (const auto& cut : {std::set<std::pair<int, int>>{{1, 2}, {2, 1}}, {{1, 2}}, {{2, 1}}}) {
    World world;
    world.agent.echoes = false;
    const auto caller = world.caller();
    caller->ask("x");
    world.network.run_for(milliseconds(100));
    REQUIRE(world.agent.asked.size() == 1);
    world.network.cut = cut;
    world.network.run_for(milliseconds(2000));
    REQUIRE(caller->replies.size() == 1);
    CHECK(has_code(caller->replies[0], "OUTCOME_UNKNOWN"));
    world.network.cut.clear();
    world.agent.answer("late");
    world.agent.echoes = true;
    world.network.run_for(milliseconds(500));
    caller->ask("y");
    world.network.run_for(milliseconds(3000));
    REQUIRE(caller->replies.size() == 2);
    CHECK(caller->replies[1] == "y");
  }
}

TEST_CASE("a caller that never reads does not make its sidecar hold more than the water mark, and nobody else waits") {
  World world;
  const auto other = world.caller();
  world.network.window_bytes = 64 * limits::KiB;
  const auto greedy = world.caller(zmtp::SocketType::kDealer);
  for (int i = 0; i < 400; ++i) greedy->ask(std::string(30'000, 'g'));
  world.network.run_for(milliseconds(2000));
  other->ask("mine");
  world.network.run_for(milliseconds(4000));
  REQUIRE_FALSE(other->replies.empty());  // it was silent after the start, and told what a REQ socket throws away
  CHECK(other->replies.back() == "mine");
}

// Every caller gets exactly one result per request and only its own, the agent sees no request twice, whatever dies.
TEST_CASE("under random deaths of sidecars and agents each request ends once and runs at most once") {
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    CAPTURE(seed);
    World world(seed);
    Prng& prng = world.network.prng();
    world.network.piece_bytes = 1 + prng.below(5000);
    std::vector<std::unique_ptr<Caller>> callers;
    for (int i = 0; i < 6; ++i) callers.push_back(world.caller());
    std::vector<size_t> asked(callers.size(), 0);
    const Instant end = world.network.now() + std::chrono::seconds(20);
    bool b_lives = true;
    while (world.network.now() < end) {
      for (size_t i = 0; i < callers.size(); ++i) {
        if (asked[i] > callers[i]->replies.size() || prng.below(3) != 0) continue;
        const std::string body = std::to_string(i) + "/" + std::to_string(asked[i]) + "/";
        callers[i]->ask(body + std::string(prng.below(20) == 0 ? prng.below(90'000) : prng.below(300), 'x'));
        ++asked[i];
      }
      if (prng.below(40) == 0) {
        b_lives ? world.b.kill() : world.b.start();
        b_lives = !b_lives;
      }
      world.network.run_for(milliseconds(static_cast<int64_t>(1 + prng.below(60))));
    }
    if (!b_lives) world.b.start();
    world.network.run_for(std::chrono::seconds(6));
    for (size_t i = 0; i < callers.size(); ++i) {
      REQUIRE(callers[i]->replies.size() == asked[i]);
      for (size_t n = 0; n < asked[i]; ++n) {
        const std::string& reply = callers[i]->replies[n];
        const std::string own = std::to_string(i) + "/" + std::to_string(n) + "/";
        const bool right = reply.starts_with(own) || reply.starts_with("{\"status\":\"error\"");
        REQUIRE_MESSAGE(right, reply.substr(0, 100));
      }
    }
    std::set<std::string> seen;
    for (const std::string& request : world.agent.asked) {
      REQUIRE(seen.insert(request.substr(0, request.find_last_of('/'))).second);
    }
    // Liveness: with everything up again, the next request is answered by the agent.
    callers[0]->ask("after");
    world.network.run_for(std::chrono::seconds(3));
    REQUIRE(callers[0]->replies.back() == "after");
    REQUIRE(world.a.driver().engine().idle());
    REQUIRE(world.b.driver().engine().idle());
  }
}

TEST_CASE("a lane whose batch was filled with cancels goes on with the calls that came in the same turn") {
  World world;
  world.agent.echoes = false;
  Caller many(world.network, "a.echo", zmtp::SocketType::kDealer);
  std::deque<Caller> crowd;
  for (int i = 0; i < 5; ++i) crowd.emplace_back(world.network, "a.echo", zmtp::SocketType::kDealer);
  world.network.run_for(milliseconds(5));
  for (Caller& each : crowd) {
    for (int i = 0; i < 60; ++i) each.ask("x");
  }
  world.network.run_for(milliseconds(50));
  // All at once: more cancels than a batch holds, and a call.
  world.a.turn([&] {
    for (Caller& each : crowd) each.disconnect();
  });
  const auto caller = world.caller();
  for (int i = 0; i < 20; ++i) {
    world.agent.echoes = true;
    caller->ask("after");
    world.network.run_for(milliseconds(1));
  }
  while (!world.agent.unanswered()) world.network.run_for(milliseconds(1));
  world.agent.answer("the first, which nobody waits for");
  world.network.run_for(milliseconds(500));
  CHECK(caller->replies.size() == 20);
}

TEST_CASE(
    "an agent that takes nothing more is given nothing more, and what waited is told that it waited in the queue") {
  World world(1, true);
  world.network.window_bytes = 64 * 1024;
  world.agent.echoes = false;
  world.agent.stop_reading();
  const auto caller = world.caller(zmtp::SocketType::kDealer);
  for (int i = 0; i < 60; ++i) caller->ask(std::string(30'000, 'x'));
  world.network.run_for(milliseconds(2 * limits::dropin_budget_ms));
  CHECK(caller->replies.size() == 60);
  CHECK(world.b.driver().engine().inbound().queued_bytes() == 0);
  CHECK(world.b.count(Counter::kDelivered) < 10);
}

TEST_CASE("a large request on a slow link arrives, and its ping does not take the wait for death") {
  World world;
  const auto caller = world.caller();
  caller->ask("warm");
  world.network.run_for(milliseconds(500));
  world.network.bytes_per_second = 1'000'000;
  caller->ask(std::string(3'000'000, 'x'));
  world.network.run_for(milliseconds(4400));
  CHECK(world.a.count(Counter::kLinksLost) == 0);
  CHECK(world.agent.asked.size() == 2);
}

TEST_CASE("a REQ socket is freed also if the sidecar that should have freed it died, too") {
  World world;
  world.agent.echoes = false;
  const auto caller = world.caller();
  caller->ask("lost");
  world.network.run_for(milliseconds(50));
  for (int deaths = 0; deaths < 3; ++deaths) {
    world.a.kill();
    world.a.start();
    caller->reconnect();
    world.network.run_for(milliseconds(500));
  }
  world.network.run_for(milliseconds(3000));
  REQUIRE(caller->replies.size() == 1);
  CHECK(has_code(caller->replies[0], "OUTCOME_UNKNOWN"));
}

}  // namespace
}  // namespace mesh::sim
