// Peers of which only the number does harm.
#include <doctest/doctest.h>

#include <algorithm>
#include <deque>
#include <string>
#include <vector>

#include "tests/sim/attacker.h"

namespace mesh::sim {
namespace {

TEST_CASE("strangers that say nothing keep no good peer out, and are gone after their two seconds") {
  World world;
  std::deque<Attacker> silent;
  for (int i = 0; i < 400; ++i) silent.emplace_back(world.network, i % 2 == 0 ? "a.echo" : "b.link");
  world.network.run_for(milliseconds(5));
  const auto caller = world.caller();
  CHECK(served_in(world, *caller) < milliseconds(20));
  world.network.run_for(milliseconds(limits::handshake_ms + 100));
  for (const Attacker& each : silent) CHECK(each.closed);
  CHECK(refused(world.a, "drop_in:echo", "handshake_timeout") == 200);
  CHECK(refused(world.b, "link", "handshake_timeout") == 200);
}

TEST_CASE("when more strangers come than may be in a handshake, the oldest go, and who means it gets in") {
  World world;
  std::deque<Attacker> silent;
  for (int i = 0; i < 1000; ++i) silent.emplace_back(world.network, "a.echo");
  world.network.run_for(milliseconds(5));
  CHECK(refused(world.a, "drop_in:echo", "newcomer_evicted") == 1000 - limits::handshakes_max);
  const auto caller = world.caller();
  CHECK(served_in(world, *caller) < milliseconds(20));
}

TEST_CASE("of a crowd that means it who is turned away comes again, and nobody loses what he asked") {
  struct Crowd {
    size_t callers;
    std::string turned_away_by;
    Duration until_served;
  };
  const Duration still = milliseconds(limits::client_dispensable_ms);
  for (const Crowd& crowd :
       {Crowd{1000, "newcomer_evicted", milliseconds(1500)},
        Crowd{limits::connections_per_port_max + 100, "connections_max", still + milliseconds(1500)}}) {
    World world;
    std::deque<std::unique_ptr<Caller>> callers;
    for (size_t i = 0; i < crowd.callers; ++i) {
      callers.push_back(std::make_unique<Caller>(world.network, "a.echo", zmtp::SocketType::kReq));
      callers.back()->ask("good");
      if (i % 4 == 0) world.network.run_for(microseconds(1));
    }
    const Instant began = world.network.now();
    while (world.network.now() - began < crowd.until_served) {
      world.network.run_for(milliseconds(100));
      for (const auto& each : callers) {
        if (each->closed) each->reconnect();
      }
    }
    CHECK(refused(world.a, "drop_in:echo", crowd.turned_away_by) > 0);
    CHECK(std::all_of(callers.begin(), callers.end(), [](const auto& each) { return each->replies.size() == 1; }));
  }
}

TEST_CASE("a silent crowd at the admin socket does not lock the administrator out") {
  World world;
  std::deque<Attacker> silent;
  for (int i = 0; i < 100; ++i) silent.emplace_back(world.network, "ipc://a.admin");
  world.network.run_for(milliseconds(5));
  Attacker administrator(world.network, "ipc://a.admin");
  administrator.say(as_bytes("health\n"));
  world.network.run_for(milliseconds(5));
  CHECK(administrator.received_bytes > 0);
}

TEST_CASE("a port full of peers that never asked for anything takes a newcomer in, and dismisses none that works") {
  for (const bool at_link : {false, true}) {
    World world;
    const auto early = world.caller();
    early->ask("first");
    world.network.run_for(milliseconds(50));
    const size_t places = at_link ? limits::links_max : limits::connections_per_port_max;
    std::deque<Attacker> idle;
    for (size_t i = 0; i < places + 100; ++i) {
      Attacker& each = idle.emplace_back(world.network, at_link ? "b.link" : "a.echo");
      each.shake_hands(zmtp::SocketType::kDealer);
      if (i % 50 != 0) continue;
      world.network.run_for(milliseconds(5));
      if (at_link) {
        for (size_t j = i < 50 ? 0 : i - 49; j <= i; ++j) idle[j].say_hello();
      }
    }
    world.network.run_for(milliseconds(20));
    const std::string label = at_link ? "link" : "drop_in:echo";
    CHECK(refused(at_link ? world.b : world.a, label, "guest_dismissed") >= 100);
    CHECK(refused(at_link ? world.b : world.a, label, "connections_max") == 0);
    const auto caller = world.caller();
    CHECK(served_in(world, *caller) < milliseconds(20));
    CHECK(served_in(world, *early) < milliseconds(20));
    CHECK_FALSE(early->closed);
    CHECK(idle[0].closed);
    CHECK_FALSE(idle.back().closed);
  }
}

TEST_CASE("who is ready for a moment only is not taken for one that never asks") {
  World world;
  std::deque<Attacker> ready;
  for (size_t i = 0; i < limits::connections_per_port_max; ++i) {
    ready.emplace_back(world.network, "a.echo").shake_hands(zmtp::SocketType::kDealer);
    if (i % 50 == 0) world.network.run_for(milliseconds(1));
  }
  world.network.run_for(milliseconds(2));
  Attacker late(world.network, "a.echo");
  world.network.run_for(milliseconds(2));
  CHECK(late.closed);
  CHECK(refused(world.a, "drop_in:echo", "guest_dismissed") == 0);
  world.network.run_for(milliseconds(limits::client_first_ask_ms));
  const auto caller = world.caller();
  CHECK(served_in(world, *caller) < milliseconds(20));
  CHECK(refused(world.a, "drop_in:echo", "guest_dismissed") == 1);
}

TEST_CASE("where everybody works or just did, a newcomer is refused, until one has asked for nothing for a while") {
  World world;
  std::deque<Attacker> busy;
  for (size_t i = 0; i < limits::connections_per_port_max; ++i) {
    busy.emplace_back(world.network, "a.echo").shake_hands(zmtp::SocketType::kDealer);
    if (i % 100 == 0) world.network.run_for(milliseconds(5));
  }
  world.network.run_for(milliseconds(5));
  for (Attacker& each : busy) {
    each.connection().send(std::vector<Slice>{Slice(), Slice::copy_of(std::string_view("x"))});
    each.flush();
    world.network.run_for(milliseconds(1));
  }
  world.network.run_for(milliseconds(1000));
  Attacker late(world.network, "a.echo");
  world.network.run_for(milliseconds(50));
  CHECK(late.closed);
  CHECK(refused(world.a, "drop_in:echo", "connections_max") == 1);
  world.network.run_for(milliseconds(limits::client_dispensable_ms));
  const auto caller = world.caller();
  CHECK(served_in(world, *caller) < milliseconds(20));
  CHECK(refused(world.a, "drop_in:echo", "guest_dismissed") == 1);
}

}  // namespace
}  // namespace mesh::sim
