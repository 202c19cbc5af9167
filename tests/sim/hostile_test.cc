// Peers that mean harm, against sidecars on a virtual network: whoever breaks a rule is gone in time, nobody else
// notices.

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "common/zmtp/command.h"
#include "tests/sim/attacker.h"

namespace mesh::sim {
namespace {

TEST_CASE("a client that never reads its replies is closed within 5 s, and others are served all the while") {
  World world;
  const auto caller = world.caller();
  Attacker deaf(world.network, "a.echo");
  deaf.shake_hands(zmtp::SocketType::kDealer);
  world.network.run_for(milliseconds(5));
  const Slice body = Slice::copy_of(std::string(16 * limits::KiB, 'x'));
  deaf.stop_reading();
  for (int i = 0; i < 1000; ++i) deaf.connection().send(std::vector<Slice>{Slice(), body});
  deaf.flush();
  Duration slowest{0};
  const Instant began = world.network.now();
  const auto is_closed = [&] { return refused(world.a, "drop_in:echo", "reader_stalled") == 1; };
  while (!is_closed() && world.network.now() - began < milliseconds(6000)) {
    slowest = std::max(slowest, served_in(world, *caller));
    world.network.run_for(milliseconds(50));
  }
  CHECK(is_closed());
  CHECK(world.network.now() - began <= milliseconds(5000));
  CHECK(slowest < milliseconds(200));
  CHECK(world.a.driver().engine().idle());
}

TEST_CASE("a flood of PINGs ends the connection, on every port that speaks ZMTP") {
  for (const auto& [port, label] : {std::pair{"a.echo", "drop_in:echo"}, {"b.link", "link"}}) {
    World world;
    Attacker flood(world.network, port);
    flood.shake_hands(zmtp::SocketType::kDealer);
    world.network.run_for(milliseconds(5));
    for (int i = 0; i < 5000; ++i) zmtp::put_ping(flood.out(), 0, as_bytes("are you there"));
    flood.flush();
    world.network.run_for(milliseconds(500));
    CHECK(flood.closed);
    CHECK(refused(world.a, label, "command_flood") + refused(world.b, label, "command_flood") == 1);
  }
}

TEST_CASE("whoever is sent PONGs and reads none of them is closed within 5 s of the first that does not fit") {
  World world;
  world.network.window_bytes = 4096;
  Attacker deaf(world.network, "a.echo");
  deaf.shake_hands(zmtp::SocketType::kDealer);
  world.network.run_for(milliseconds(5));
  deaf.stop_reading();
  int rounds = 0;
  for (; rounds < 200 && refused(world.a, "drop_in:echo", "reader_stalled") == 0; ++rounds) {
    for (int i = 0; i < 9; ++i) zmtp::put_ping(deaf.out(), 0, as_bytes("0123456789abcdef"));
    deaf.flush();
    world.network.run_for(milliseconds(100));
  }
  CHECK(rounds < 20 + 50);  // 4096 bytes are 170 PONGs
}

TEST_CASE("pings and cancels of a peer that are worth nothing end its link, an honest cancel does not") {
  for (const wire::Kind kind : {wire::Kind::kPing, wire::Kind::kCancel, wire::Kind::kDraining}) {
    World world;
    const auto caller = world.caller();
    Attacker peer(world.network, "b.link");
    peer.shake_hands(zmtp::SocketType::kDealer);
    world.network.run_for(milliseconds(5));
    peer.say_hello();
    world.agent.echoes = false;
    for (uint64_t id = 1; id <= 200; ++id) {
      peer.put({.kind = wire::Kind::kRequest, .call_id = id, .service = "echo", .budget_us = 1'000'000});
      peer.put({.kind = wire::Kind::kCancel, .call_id = id});
    }
    peer.send_batch();
    world.network.run_for(milliseconds(100));
    CHECK_FALSE(peer.closed);
    for (uint64_t id = 1000; id < 4000; ++id) peer.put({.kind = kind, .call_id = id});
    peer.send_batch();
    world.network.run_for(milliseconds(100));
    CHECK(peer.closed);
  }
}

TEST_CASE("a reply to nothing asked, and a request from one who was dialed, end the link with their rule") {
  World world;
  Attacker peer(world.network, "b.link");
  peer.shake_hands(zmtp::SocketType::kDealer);
  world.network.run_for(milliseconds(5));
  peer.say_hello();
  peer.put({.kind = wire::Kind::kReply, .call_id = 7});
  peer.send_batch();
  world.network.run_for(milliseconds(100));
  CHECK(peer.closed);
  CHECK(refused(world.b, "link", "reply_unexpected") == 1);
}

TEST_CASE("a connection that broke a rule is not fed any more, however much the kernel still has of it") {
  for (const auto& [port, type] :
       {std::pair{"a.echo", zmtp::SocketType::kDealer}, {"b.link", zmtp::SocketType::kDealer}}) {
    World world;
    world.network.reads_per_turn = 8;
    world.network.piece_bytes = 512;
    Attacker liar(world.network, port);
    liar.shake_hands(type);
    world.network.run_for(milliseconds(5));
    liar.say(as_bytes(std::string(8192, '\xFF')));  // reserved flags, and more behind
    world.network.run_for(milliseconds(50));
    CHECK(liar.closed);
    const auto caller = world.caller();
    CHECK(served_in(world, *caller) < milliseconds(20));
  }
}

TEST_CASE("frames before the delimiter may not be a place to keep megabytes") {
  World world;
  Attacker hoarder(world.network, "a.echo");
  hoarder.shake_hands(zmtp::SocketType::kDealer);
  world.network.run_for(milliseconds(5));
  const Slice route = Slice::copy_of(std::string(limits::route_bytes + 1, 'r'));
  hoarder.connection().send(std::vector<Slice>{route, Slice(), Slice::copy_of(std::string_view("x"))});
  hoarder.flush();
  world.network.run_for(milliseconds(50));
  CHECK(hoarder.closed);
  CHECK(refused(world.a, "drop_in:echo", "route_bytes") == 1);
}

TEST_CASE(
    "a flood of tiny messages in one read is taken in shares, all of it answered, and others are served meanwhile") {
  World world;
  const auto caller = world.caller();
  Attacker flood(world.network, "a.echo");
  flood.shake_hands(zmtp::SocketType::kDealer);
  world.network.run_for(milliseconds(5));
  constexpr int kMessages = 20'000;
  for (int i = 0; i < kMessages; ++i) flood.connection().send(std::vector<Slice>{Slice()});
  flood.flush();
  Duration slowest{0};
  for (int i = 0; i < 50; ++i) slowest = std::max(slowest, served_in(world, *caller));
  CHECK(slowest < milliseconds(200));
  CHECK(world.a.driver().engine().outbound().open_calls() <= limits::client_open_calls_max);
  world.network.run_for(milliseconds(60'000));
  CHECK(world.a.count(proxy::Counter::kRequests) >= kMessages);
  CHECK(world.a.driver().engine().idle());
}

TEST_CASE("who asks much at once waits for answers, and for no timer") {
  World world(1, true);
  world.network.reads_per_turn = 1000;
  const auto caller = world.caller(zmtp::SocketType::kDealer);
  caller->ask("warm");
  world.network.run_for(milliseconds(100));
  for (int i = 0; i < 1000; ++i) caller->ask("x");
  // 128 at a time, each round trip 0.3 ms on this network.
  world.network.run_for(milliseconds(10));
  CHECK(caller->replies.size() == 1001);
}

TEST_CASE("a REQ socket that sends too many parts is told so, and asks on") {
  World world;
  Attacker chatty(world.network, "a.echo");
  chatty.shake_hands(zmtp::SocketType::kReq);
  world.network.run_for(milliseconds(5));
  std::vector<Slice> parts(12, Slice::copy_of(std::string_view("part")));
  parts[0] = Slice();
  chatty.connection().send(parts);
  chatty.flush();
  world.network.run_for(milliseconds(50));
  CHECK_FALSE(chatty.closed);
  CHECK(chatty.last_message.find("request_frames") != std::string::npos);
  chatty.connection().send(std::vector<Slice>{Slice(), Slice::copy_of(std::string_view("good"))});
  chatty.flush();
  world.network.run_for(milliseconds(50));
  CHECK(chatty.last_message == "good");
}

TEST_CASE("a peer that gives two open calls the same id is closed, one that uses an id again after its reply is not") {
  World world;
  Attacker peer(world.network, "b.link");
  peer.shake_hands(zmtp::SocketType::kDealer);
  world.network.run_for(milliseconds(5));
  peer.say_hello();
  for (int round = 0; round < 3; ++round) {
    peer.put({.kind = wire::Kind::kRequest, .call_id = 7, .service = "echo", .budget_us = 1'000'000});
    peer.send_batch();
    world.network.run_for(milliseconds(20));
  }
  CHECK_FALSE(peer.closed);
  CHECK(world.agent.asked.size() == 3);
  for (int i = 0; i < 2; ++i) {
    peer.put({.kind = wire::Kind::kRequest, .call_id = 8, .service = "echo", .budget_us = 1'000'000});
  }
  peer.send_batch();
  world.network.run_for(milliseconds(20));
  CHECK(peer.closed);
  CHECK(refused(world.b, "link", "call_id_twice") == 1);
}

}  // namespace
}  // namespace mesh::sim
