// libzmq at one end, the engine at the other: bodies, envelopes and identities in both of the sidecar's roles.
#include <doctest/doctest.h>

#include <string>

#include "tests/interop/libzmq_side.h"

namespace mesh::interop {
namespace {

// The body last, whatever the envelope: what libzmq's REP gives to its user.
Frames with_body(Frames envelope, const std::string& body) {
  envelope.push_back(body);
  return envelope;
}

TEST_CASE("a libzmq REQ is answered byte for byte, over tcp and ipc") {
  for (const bool is_ipc : {false, true}) {
    CAPTURE(is_ipc);
    MeetingPlace place(is_ipc);
    place.listen();
    zmq::socket_t client = new_socket(zmq::socket_type::req);
    client.connect(place.endpoint());
    EnginePeer engine(place.accept(), as_server());
    for (const std::string& body : bodies()) {
      CAPTURE(body.size());
      REQUIRE(send(client, {body}));
      const auto request = engine.receive();
      REQUIRE(request.has_value());
      CHECK(*request == Frames{"", body});
      engine.send(*request);
      CHECK(receive(client) == Frames{body});
    }
    CHECK(engine.connection().peer().socket_type == zmtp::SocketType::kReq);
    CHECK(engine.connection().peer_minor() == 1);
  }
}

TEST_CASE("a libzmq DEALER keeps its envelope, its frames and its identity, over tcp and ipc") {
  for (const bool is_ipc : {false, true}) {
    CAPTURE(is_ipc);
    MeetingPlace place(is_ipc);
    place.listen();
    zmq::socket_t client = new_socket(zmq::socket_type::dealer);
    client.set(zmq::sockopt::routing_id, "caller-7");
    client.connect(place.endpoint());
    EnginePeer engine(place.accept(), as_server());
    for (const Frames& envelope : {Frames{}, Frames{""}, Frames{"id", "\xff", ""}}) {
      for (const std::string& body : bodies()) {
        CAPTURE(body.size());
        const Frames message = with_body(envelope, body);
        REQUIRE(send(client, message));
        CHECK(engine.receive() == message);
        engine.send(message);
        CHECK(receive(client) == message);
      }
    }
    CHECK(engine.connection().peer().socket_type == zmtp::SocketType::kDealer);
    CHECK(engine.connection().peer().identity == "caller-7");
  }
}

TEST_CASE("many messages that arrive in one read come out one by one and in order") {
  MeetingPlace place(false);
  place.listen();
  zmq::socket_t client = new_socket(zmq::socket_type::dealer);
  client.connect(place.endpoint());
  for (int i = 0; i < 500; ++i) REQUIRE(send(client, {"", std::to_string(i)}));
  EnginePeer engine(place.accept(), as_server());
  for (int i = 0; i < 500; ++i) {
    const auto message = engine.receive();
    REQUIRE(message == Frames{"", std::to_string(i)});
    engine.send(*message);
  }
  for (int i = 0; i < 500; ++i) REQUIRE(receive(client) == Frames{"", std::to_string(i)});
}

// `seen` is what the server's user gets for [id, empty, body] from the engine, without its last frame.
void exchange_with_server(zmq::socket_type type, zmtp::SocketType engine_type, const Frames& seen) {
  for (const bool is_ipc : {false, true}) {
    CAPTURE(is_ipc);
    MeetingPlace place(is_ipc);
    zmq::socket_t server = new_socket(type);
    server.bind(place.endpoint());
    zmtp::Settings settings = as_client_of(engine_type);
    settings.identity = "engine";
    EnginePeer engine(place.connect(), settings);
    REQUIRE(engine.await_ready());
    for (const std::string& body : bodies()) {
      CAPTURE(body.size());
      const Frames message = {"\x01\x02\x03\x04\x05\x06\x07\x08", "", body};
      engine.send(message);
      const auto request = receive(server);
      REQUIRE(request.has_value());
      CHECK(*request == with_body(seen, body));
      REQUIRE(send(server, *request));
      CHECK(engine.receive() == message);
    }
  }
}

TEST_CASE("a libzmq REP gets the body and gives back the envelope") {
  exchange_with_server(zmq::socket_type::rep, zmtp::SocketType::kRep, {});
}

TEST_CASE("a libzmq ROUTER knows the engine by the identity it gave") {
  exchange_with_server(zmq::socket_type::router, zmtp::SocketType::kRouter,
                       {"engine", "\x01\x02\x03\x04\x05\x06\x07\x08", ""});
}

TEST_CASE("a libzmq DEALER gets every frame as it was sent") {
  exchange_with_server(zmq::socket_type::dealer, zmtp::SocketType::kDealer, {"\x01\x02\x03\x04\x05\x06\x07\x08", ""});
}

}  // namespace
}  // namespace mesh::interop
