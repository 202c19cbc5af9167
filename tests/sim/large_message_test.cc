// Messages that are long under way.
#include <doctest/doctest.h>

#include <deque>
#include <string>
#include <vector>

#include "tests/sim/attacker.h"

namespace mesh::sim {
namespace {

// Whoever claims a long frame of so many bytes.
void claim(Attacker& attacker, uint64_t bytes) {
  uint8_t header[9] = {2};
  for (int i = 0; i < 8; ++i) header[8 - i] = static_cast<uint8_t>(bytes >> (8 * i));
  attacker.say(ByteView(header));
}

TEST_CASE("a message that is begun and not ended is given up within 5 s, one that goes on slowly is not") {
  World world;
  std::deque<Attacker> slow;
  for (const char* port : {"a.echo", "b.link"}) {
    Attacker& each = slow.emplace_back(world.network, port);
    each.shake_hands(zmtp::SocketType::kDealer);
  }
  world.network.run_for(milliseconds(5));
  slow[1].say_hello();
  for (Attacker& each : slow) {
    const uint8_t header[] = {2, 0, 0, 0, 0, 0, 0x20, 0, 0};  // a long frame of 2 MiB
    each.say(ByteView(header));
  }
  const std::string part(100'000, 'x');
  for (int second = 0; second < 10; ++second) {
    slow[0].say(as_bytes(part));
    slow[1].say(as_bytes(part));
    world.network.run_for(milliseconds(1000));
  }
  CHECK_FALSE(slow[0].closed);
  CHECK_FALSE(slow[1].closed);
  world.network.run_for(milliseconds(2 * limits::stall_ms + 100));
  CHECK(slow[0].closed);
  CHECK(slow[1].closed);
  CHECK(refused(world.a, "drop_in:echo", "message_stalled") == 1);
  CHECK(refused(world.b, "link", "message_stalled") == 1);
}

TEST_CASE("large messages that trickle in keep nobody else's large message out for long, and leave room behind") {
  World world;
  const auto caller = world.caller();
  std::deque<Attacker> slow;
  for (int i = 0; i < 6; ++i) slow.emplace_back(world.network, "a.echo").shake_hands(zmtp::SocketType::kDealer);
  world.network.run_for(milliseconds(5));
  for (Attacker& each : slow) claim(each, 7 * limits::MiB / 2), each.say(as_bytes(std::string(20'000, 'x')));
  const auto served_within = [&](int64_t ms) {
    caller->replies.clear();
    caller->ask(std::string(2 * limits::MiB, 'g'));
    for (int64_t at = 0; at < ms && caller->replies.empty(); at += 50) {
      for (Attacker& each : slow) {
        if (!each.closed) each.say(as_bytes(std::string(20'000, 'x')));
      }
      world.network.run_for(milliseconds(50));
    }
    return caller->replies.size() == 1 && caller->replies[0].size() == 2 * limits::MiB;
  };
  world.network.run_for(milliseconds(5));
  CHECK(served_within(1000));
  CHECK(refused(world.a, "drop_in:echo", "message_stalled") >= 1);
  slow.clear();
  world.network.run_for(milliseconds(100));
  for (int i = 0; i < 4; ++i) CHECK(served_within(100));
}

TEST_CASE("a link whose large message waits for room is not taken for dead, and what it carried is served") {
  World world;
  world.network.window_bytes = 64 * limits::KiB;
  const auto caller = world.caller();
  std::deque<Attacker> slow;
  for (int i = 0; i < 3; ++i) slow.emplace_back(world.network, "b.link").shake_hands(zmtp::SocketType::kDealer);
  world.network.run_for(milliseconds(5));
  for (Attacker& each : slow) each.say_hello(), claim(each, 60 * limits::MiB);
  const std::string part(40'000, 'x');
  size_t peak_waiting = 0;
  caller->ask(std::string(2 * limits::MiB, 'g'));
  for (int i = 0; i < 22; ++i) {  // longer than a silent peer is given
    for (Attacker& each : slow) {
      each.say(as_bytes(part));  // 400 KB/s: slow, but no slower than a link may be
    }
    world.network.run_for(milliseconds(100));
    peak_waiting = std::max(peak_waiting, world.a.driver().engine().outbound().open_calls());
  }
  CHECK(peak_waiting == 1);
  CHECK(world.a.count(proxy::Counter::kLinksLost) == 0);
  CHECK(caller->replies.empty());
  for (Attacker& each : slow) each.hang_up();
  world.network.run_for(milliseconds(1000));
  REQUIRE(caller->replies.size() == 1);
  CHECK(caller->replies[0].size() == 2 * limits::MiB);
  CHECK(world.a.count(proxy::Counter::kLinksLost) == 0);
}

TEST_CASE("links that begin large messages and stop hold no more than their share of memory, and go when others wait") {
  World world;
  std::deque<Attacker> halves;
  for (int i = 0; i < 10; ++i) halves.emplace_back(world.network, "b.link").shake_hands(zmtp::SocketType::kDealer);
  world.network.run_for(milliseconds(5));
  const std::string half(3 * limits::MiB - 1, 'h');
  for (Attacker& each : halves) each.say_hello(), claim(each, 3 * limits::MiB), each.say(as_bytes(half));
  world.network.run_for(milliseconds(200));
  const auto taken_in = [&] {
    size_t bytes = 0;
    for (Attacker& each : halves) bytes += half.size() - std::min(half.size(), each.out().bytes());
    return bytes;
  };
  CHECK(taken_in() < 2 * limits::gathering_bytes);
  world.network.run_for(milliseconds(5000));
  for (const Attacker& each : halves) CHECK(each.closed);
  CHECK(refused(world.b, "link", "message_stalled") + refused(world.b, "link", "no_room") == 10);
}

TEST_CASE("whoever spoke while the sidecar was stopped is heard before its silence is judged") {
  World world;
  const auto caller = world.caller();
  world.network.piece_bytes = 200;
  caller->ask(std::string(20'000, 'x'));
  world.network.run_for(milliseconds(2));  // some of it is there
  CHECK(world.a.driver().engine().outbound().open_calls() == 0);
  world.a.host()->pause_until(world.network.now() + milliseconds(6000));
  world.network.run_for(milliseconds(7000));
  CHECK_FALSE(caller->closed);
  REQUIRE(caller->replies.size() == 1);
  CHECK(caller->replies[0].size() == 20'000);
}

}  // namespace
}  // namespace mesh::sim
