// Peers that mean harm, against sidecars on a virtual network: whoever breaks a rule is gone in time, nobody else
// notices.

#include <doctest/doctest.h>

#include <deque>
#include <string>
#include <vector>

#include "common/base/limits.h"
#include "common/wire/batch.h"
#include "common/zmtp/command.h"
#include "tests/sim/world.h"

namespace mesh::sim {
namespace {

// A connection that sends what it is told to, and reads only if it likes.
class Attacker final : public StreamObserver {
 public:
  Attacker(VirtualNetwork& network, const std::string& port) : host_(network) {
    stream_ = host_.connect(endpoint(port), *this);
  }
  void stop_reading() { stream_->pause_reading(); }
  void say(ByteView bytes) {
    stream_->out().put(bytes);
    stream_->flush();
  }
  // Up to READY, as a socket of that type.
  void shake_hands(zmtp::SocketType type) {
    connection_.emplace(zmtp::Settings{.own_type = type, .accepted_peers = {zmtp::SocketType::kRouter}, .identity = {}},
                        stream_->out(), host_.now());
    stream_->flush();
  }
  // As the dialing side of two sidecars does.
  void say_hello() {
    wire::Hello hello;
    hello.host = "evil";
    hello.sidecar = "main";
    put({.kind = wire::Kind::kHello, .hello = &hello});
    send_batch();
  }
  void put(const wire::Envelope& envelope) {
    if (!batch_.fits(envelope.body.size())) send_batch();
    batch_.add(envelope);
  }
  void send_batch() {
    connection_->send(batch_.seal(nullptr));
    stream_->flush();
  }
  Outbox& out() { return stream_->out(); }
  void flush() { stream_->flush(); }
  zmtp::Connection& connection() { return *connection_; }

  bool closed = false;
  uint64_t received_bytes = 0;
  std::string last_message;

  void on_connected() override { stream_->flush(); }
  void on_bytes(Slice bytes) override {
    received_bytes += bytes.size();
    if (!connection_) return;
    connection_->feed(std::move(bytes), host_.now());
    while (const zmtp::Message* message = connection_->next().value_or(nullptr)) {
      last_message = message->frames().back().text();
    }
    stream_->flush_later();
  }
  void on_closed(std::string_view) override { closed = true; }

 private:
  VirtualHost host_;
  std::unique_ptr<Stream> stream_;
  std::optional<zmtp::Connection> connection_;
  wire::BatchEncoder batch_;
};

uint64_t refused(Sidecar& sidecar, const std::string& port, const std::string& rule) {
  const auto& all = sidecar.driver().engine().counters().refused;
  const auto at = all.find({port, rule});
  return at == all.end() ? 0 : at->second;
}

// A good request, now: how long until its reply; the whole second if none came.
Duration served_in(World& world, Caller& caller) {
  const Instant asked = world.network.now();
  caller.replies.clear();
  caller.ask("good");
  while (caller.replies.empty() && world.network.now() - asked < milliseconds(1000)) {
    world.network.run_for(microseconds(100));
  }
  if (!caller.replies.empty()) CHECK(caller.replies[0] == "good");
  return world.network.now() - asked;
}

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

TEST_CASE("large messages that trickle in keep nobody else's large message out for long") {
  World world;
  const auto caller = world.caller();
  std::deque<Attacker> slow;
  for (int i = 0; i < 4; ++i) slow.emplace_back(world.network, "a.echo").shake_hands(zmtp::SocketType::kDealer);
  world.network.run_for(milliseconds(5));
  const uint8_t header[] = {2, 0, 0, 0, 0, 0, 0x38, 0, 0};  // a long frame of 3.5 MiB
  for (Attacker& each : slow) each.say(ByteView(header));
  const std::string part(20'000, 'x');
  caller->replies.clear();
  for (int i = 0; i < 20 && caller->replies.empty(); ++i) {
    for (Attacker& each : slow) each.say(as_bytes(part));
    if (i == 1) caller->ask(std::string(200'000, 'g'));
    world.network.run_for(milliseconds(200));
  }
  REQUIRE(caller->replies.size() == 1);
  CHECK(caller->replies[0].size() == 200'000);
}

}  // namespace
}  // namespace mesh::sim
