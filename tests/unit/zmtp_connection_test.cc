#include <doctest/doctest.h>

#include <optional>
#include <string>
#include <vector>

#include "common/base/prng.h"
#include "common/zmtp/connection.h"
#include "common/zmtp/greeting.h"

namespace mesh::zmtp {
namespace {

const Instant kStart{milliseconds(1000)};

struct Side {
  Outbox out;
  Connection connection;
  std::vector<std::vector<std::string>> messages;
  std::optional<Error> error;

  explicit Side(Settings settings) : connection(std::move(settings), out, kStart) {}

  void receive(std::string_view bytes) {
    connection.feed(Slice::copy_of(bytes), kStart);
    while (!error) {
      auto message = connection.next();
      if (!message) {
        error = message.error();
        return;
      }
      if (*message == nullptr) return;
      std::vector<std::string> frames;
      for (const Slice& frame : (*message)->frames()) frames.emplace_back(frame.text());
      messages.push_back(std::move(frames));
    }
  }
  std::string take() {
    std::string all;
    for (const Slice& chunk : out.chunks()) all += chunk.text();
    out.drop_front(out.bytes());
    return all;
  }
};

Settings server() {
  return {.own_type = SocketType::kRouter, .accepted_peers = {SocketType::kReq, SocketType::kDealer}, .identity = {}};
}
Settings client(SocketType type) {
  return {.own_type = type, .accepted_peers = {SocketType::kRouter}, .identity = "me"};
}

// Passes bytes both ways, in pieces of at most `most`, until both are quiet.
void converse(Side& a, Side& b, Prng& prng, size_t most) {
  for (bool quiet = false; !quiet;) {
    quiet = true;
    for (auto [from, to] : {std::pair<Side*, Side*>{&a, &b}, {&b, &a}}) {
      const std::string bytes = from->take();
      for (size_t at = 0; at < bytes.size() && !to->error;) {
        const size_t take = std::min(bytes.size() - at, 1 + prng.below(most));
        to->receive(std::string_view(bytes).substr(at, take));
        at += take;
        quiet = false;
      }
    }
  }
}

std::string command(std::string_view name, std::string_view data) {
  std::string body;
  body.push_back(static_cast<char>(name.size()));
  body.append(name).append(data);
  std::string frame = {kFlagCommand, static_cast<char>(body.size())};
  return frame + body;
}

std::string greeting(uint8_t minor = 1) {
  const auto bytes = encode_greeting({.minor = minor});
  return std::string(as_text(bytes));
}

std::string ready(std::string_view type) {
  Outbox out;
  put_ready(out, {.socket_type = *socket_type_from_name(type), .identity = {}});
  return std::string(out.chunks()[0].text());
}

TEST_CASE("two peers come to an agreement and exchange messages, whatever the split of the bytes") {
  Prng prng(5);
  for (size_t most : {1, 2, 7, 64, 5000}) {
    Side a(client(SocketType::kDealer));
    Side b(server());
    converse(a, b, prng, most);
    REQUIRE(a.connection.ready());
    REQUIRE(b.connection.ready());
    CHECK(b.connection.peer().identity == "me");
    CHECK(b.connection.peer().socket_type == SocketType::kDealer);
    const std::vector<Slice> frames = {Slice(), Slice::copy_of(std::string(300, 'x')),
                                       Slice::copy_of(std::string_view("y"))};
    a.connection.send(frames);
    converse(a, b, prng, most);
    REQUIRE(b.messages.size() == 1);
    CHECK(b.messages[0] == std::vector<std::string>{"", std::string(300, 'x'), "y"});
  }
}

TEST_CASE(
    "who answers READY says it only when the peer has, so that no peer is ready of whom this side knows nothing") {
  Settings answering = server();
  answering.answers_ready = true;
  Side a(answering);
  Side b(client(SocketType::kReq));
  const std::string greeting = a.take();
  const std::string said = b.take();
  b.receive(greeting);
  a.receive(said);
  CHECK(a.take().empty());
  a.receive(b.take());
  CHECK(a.connection.ready());
  CHECK_FALSE(b.connection.ready());
  b.receive(a.take());
  CHECK(b.connection.ready());
  CHECK(b.connection.peer().socket_type == SocketType::kRouter);
}

TEST_CASE("a socket of a type that has no place here gets an ERROR that says which have") {
  Side b(server());
  b.receive(greeting() + ready("SUB"));
  REQUIRE(b.error);
  CHECK(b.error->rule == "socket_type");
  CHECK(b.take().find("this port talks to REQ or DEALER sockets, not to SUB") != std::string::npos);
}

TEST_CASE("a peer that speaks 3.0 is served and never sent a PING") {
  Side b(server());
  b.receive(greeting(0) + ready("REQ"));
  REQUIRE(b.connection.ready());
  b.take();
  CHECK_FALSE(b.connection.ping(10, as_bytes("x")));
  CHECK(b.take().empty());
}

TEST_CASE("a PING between the frames of one message is answered with its context and the message stays whole") {
  Side b(server());
  b.receive(greeting() + ready("REQ"));
  b.take();
  b.receive(std::string("\x01\x00", 2) + command("PING", std::string("\x00\x0a", 2) + "ctx") +
            std::string("\x00\x02hi", 4));
  REQUIRE(b.messages.size() == 1);
  CHECK(b.messages[0] == std::vector<std::string>{"", "hi"});
  CHECK(b.take() == command("PONG", "ctx"));
}

TEST_CASE("a peer that promised traffic by its TTL and went silent is judged dead") {
  Side b(server());
  b.receive(greeting() + ready("REQ") + command("PING", std::string("\x00\x0a", 2)));
  CHECK(b.connection.next_deadline() == kStart + milliseconds(1000));
  CHECK(b.connection.judge(kStart + milliseconds(999)).has_value());
  CHECK(b.connection.judge(kStart + milliseconds(1000)).error().rule == "peer_ttl");
}

TEST_CASE("a handshake that takes longer than its time is judged at the limit") {
  Side b(server());
  b.receive(greeting().substr(0, 30));
  CHECK(b.connection.judge(kStart + milliseconds(limits::handshake_ms - 1)).has_value());
  CHECK(b.connection.judge(kStart + milliseconds(limits::handshake_ms)).error().rule == "handshake_timeout");
}

TEST_CASE("what is not a greeting is refused at its first wrong byte") {
  const std::pair<std::string, std::string> strangers[] = {
      {"GET / HTTP/1.1\r\n", "not_zmtp"},
      {std::string("\xFF\0\0\0\0\0\0\0\0\x7E", 10), "not_zmtp"},
      {std::string("\xFF\0\0\0\0\0\0\0\0\x7F\x01", 11), "zmtp_version"},
      {std::string("\xFF\0\0\0\0\0\0\0\0\x7F\x03\x01"
                   "CURVE",
                   17) +
           std::string(47, '\0'),
       "mechanism"},
  };
  for (const auto& [bytes, rule] : strangers) {
    Side b(server());
    b.receive(bytes);
    REQUIRE(b.error);
    CHECK(b.error->rule == rule);
  }
}

TEST_CASE("commands and messages in the wrong state, and lying metadata, each end the connection with a reason") {
  const std::pair<std::string, std::string> wrong[] = {
      {std::string("\x00\x00", 2), "message_before_ready"},
      {command("PING", std::string("\x00\x00", 2)), "handshake_command"},
      {command("READY", ""), "socket_type"},
      {command("READY", std::string("\x0bSocket-Type\x00\x00\x00\x09", 16) + "REQ"), "metadata"},
      {command("READY", std::string("\x0bSocket-Type\x00\x00\x00\x03", 16) + "FOO"), "socket_type"},
      {std::string("\x04\x03\x09"
                   "AB",
                   5),
       "command_name"},
      {std::string("\x06\x00\x00\x00\x00\x00\x00\x02\x01", 9), "command_bytes"},
      {ready("REQ") + ready("REQ"), "command"},
      {ready("REQ") + command("PING", "x"), "ping"},
      {ready("REQ") + command("PING", std::string("\x00\x00", 2) + std::string(17, 'c')), "ping"},
      {command("ERROR", std::string("\x04nope", 5)), "peer_error"},
  };
  for (const auto& [bytes, rule] : wrong) {
    Side b(server());
    b.receive(greeting() + bytes);
    REQUIRE_MESSAGE(b.error.has_value(), rule);
    CHECK(b.error->rule == rule);
  }
}

TEST_CASE("a multipart message that never ends stops at its frame limit") {
  Side b(server());
  b.receive(greeting() + ready("DEALER"));
  for (int i = 0; i < 9 && !b.error; ++i) b.receive(std::string("\x01\x01z", 3));
  REQUIRE(b.error);
  CHECK(b.error->rule == "message_frames");
}

TEST_CASE("a message over the limit to keep arrives marked, without its body, and the connection lives on") {
  Settings settings = server();
  settings.message_bytes = 10;
  Side b(settings);
  b.receive(greeting() + ready("REQ"));
  b.receive(std::string("\x01\x00\x00\x14", 4) + std::string(20, 'x'));
  b.receive(std::string("\x01\x00\x00\x02ok", 6));
  REQUIRE(b.messages.size() == 2);
  CHECK(b.messages[0] == std::vector<std::string>{"", ""});
  CHECK(b.messages[1] == std::vector<std::string>{"", "ok"});
  CHECK_FALSE(b.error);
}

}  // namespace
}  // namespace mesh::zmtp
