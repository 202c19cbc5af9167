// The engine against recordings of libzmq 4.3.4: it hears one side of a conversation and speaks in the other's place.
#include <doctest/doctest.h>

#include <string>
#include <string_view>

#include "common/zmtp/connection.h"
#include "tests/interop/trace.h"

namespace mesh::interop {
namespace {

using Frames = std::vector<std::string>;

const Instant kNow{milliseconds(1000)};
// ZMTP leaves a writer one freedom that these conversations show: the padding inside the greeting's signature. libzmq
// puts the length of a ZMTP 1.0 identity there, for peers that old; the engine puts zeros. Order and sizes of
// everything else are given: READY's properties are those libzmq sends, in its order, a short frame up to 255 bytes.
constexpr size_t kPaddingBegin = 1;
constexpr size_t kPaddingEnd = 9;

std::string without_padding(std::string handshake) {
  return handshake.replace(kPaddingBegin, kPaddingEnd - kPaddingBegin, kPaddingEnd - kPaddingBegin, '\0');
}

// The engine in the place of one side of a trace.
class Stand {
 public:
  Stand(const Trace& trace, bool in_place_of_client)
      : connection_({.own_type = trace.type_of(in_place_of_client),
                     .accepted_peers = {trace.type_of(!in_place_of_client)},
                     .identity = in_place_of_client && trace.client == zmtp::SocketType::kDealer ? "caller" : ""},
                    out_, kNow) {}

  void hear(std::string_view bytes) {
    if (bytes.empty()) return;
    connection_.feed(Slice::copy_of(bytes), kNow);
    while (true) {
      auto message = connection_.next();
      REQUIRE_MESSAGE(message.has_value(), message.error().text);
      if (*message == nullptr) return;
      Frames frames;
      for (const Slice& frame : (*message)->frames()) frames.emplace_back(frame.text());
      heard_.push_back(std::move(frames));
    }
  }
  void say(const Frames& frames) {
    std::vector<Slice> slices;
    for (const std::string& frame : frames) slices.push_back(Slice::copy_of(frame));
    connection_.send(slices);
  }
  std::string take_said() {
    std::string all;
    for (const Slice& chunk : out_.chunks()) all += chunk.text();
    out_.drop_front(out_.bytes());
    return all;
  }
  const std::vector<Frames>& heard() const { return heard_; }
  zmtp::Connection& connection() { return connection_; }

 private:
  Outbox out_;
  zmtp::Connection connection_;
  std::vector<Frames> heard_;
};

std::vector<Frames> messages_of(const Trace& trace, bool client) {
  std::vector<Frames> messages;
  for (const Turn& turn : trace.turns) {
    if (turn.by_client == client && !turn.frames.empty()) messages.push_back(turn.frames);
  }
  return messages;
}

TEST_CASE("there is a trace of every pair of sockets that the sidecar stands between") {
  std::string names;
  for (const Trace& trace : read_traces()) names += trace.name + " ";
  CHECK(names == "dealer_dealer dealer_rep dealer_router heartbeat req_rep req_router ");
}

TEST_CASE("what libzmq said comes out as the same messages, however its bytes are cut into two reads") {
  for (const Trace& trace : read_traces()) {
    for (const bool client : {true, false}) {
      const std::string stream = trace.stream(client);
      const auto messages = messages_of(trace, client);
      REQUIRE(!messages.empty());
      CAPTURE(trace.name);
      CAPTURE(client);
      for (size_t cut = 0; cut <= stream.size(); ++cut) {
        Stand engine(trace, !client);
        engine.hear(std::string_view(stream).substr(0, cut));
        engine.hear(std::string_view(stream).substr(cut));
        if (engine.heard() != messages) FAIL_CHECK("cut at byte " << cut);
      }
    }
  }
}

TEST_CASE("what libzmq said comes out as the same messages when it comes in pieces of one byte, two, three and so on") {
  for (const Trace& trace : read_traces()) {
    for (const bool client : {true, false}) {
      const std::string stream = trace.stream(client);
      for (size_t piece = 1; piece <= 300; ++piece) {
        Stand engine(trace, !client);
        for (size_t at = 0; at < stream.size(); at += piece) engine.hear(std::string_view(stream).substr(at, piece));
        CAPTURE(trace.name);
        CAPTURE(client);
        if (engine.heard() != messages_of(trace, client)) FAIL_CHECK("pieces of " << piece << " bytes");
      }
    }
  }
}

TEST_CASE("in libzmq's place the engine says what libzmq said, byte for byte but for the signature's padding") {
  for (const Trace& trace : read_traces()) {
    for (const bool client : {true, false}) {
      CAPTURE(trace.name);
      CAPTURE(client);
      Stand engine(trace, client);
      const bool client_first = trace.turns.at(0).by_client;
      REQUIRE(client_first != trace.turns.at(1).by_client);
      engine.hear(trace.turns[client_first == client ? 1 : 0].wire);
      const std::string& handshake = trace.turns[client_first == client ? 0 : 1].wire;
      CHECK(without_padding(engine.take_said()) == without_padding(handshake));
      for (size_t i = 2; i < trace.turns.size(); ++i) {
        const Turn& turn = trace.turns[i];
        CAPTURE(i);
        if (turn.by_client != client) {
          engine.hear(turn.wire);
          continue;
        }
        if (!turn.frames.empty()) engine.say(turn.frames);
        // libzmq PINGs when its timer says so; a PONG is there since the PING was heard.
        if (turn.wire.find("PING") != std::string::npos) REQUIRE(engine.connection().ping(15, {}));
        CHECK(engine.take_said() == turn.wire);
      }
      CHECK(engine.heard() == messages_of(trace, !client));
    }
  }
}

}  // namespace
}  // namespace mesh::interop
