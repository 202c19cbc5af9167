// PINGs in both directions. ZMQ_HEARTBEAT_IVL is set only here, and on REQ and DEALER only.
#include <doctest/doctest.h>

#include <string>

#include "tests/interop/libzmq_side.h"

namespace mesh::interop {
namespace {

constexpr int kHeartbeat_ms = 40;
constexpr int kHeartbeatTimeout_ms = 120;

zmq::socket_t new_client_with_heartbeat(zmq::socket_type type) {
  zmq::socket_t client = new_socket(type);
  client.set(zmq::sockopt::heartbeat_ivl, kHeartbeat_ms);
  client.set(zmq::sockopt::heartbeat_timeout, kHeartbeatTimeout_ms);
  client.set(zmq::sockopt::heartbeat_ttl, 700);
  return client;
}

size_t count(const std::string& text, std::string_view part) {
  size_t found = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + part.size())) ++found;
  return found;
}

TEST_CASE("the PINGs of a libzmq client are answered, and it stays for many times its heartbeat's time-out") {
  for (const auto type : {zmq::socket_type::req, zmq::socket_type::dealer}) {
    MeetingPlace place(false);
    place.listen();
    zmq::socket_t client = new_client_with_heartbeat(type);
    Monitor monitor(client);
    client.connect(place.endpoint());
    EnginePeer engine(place.accept(), as_server());
    REQUIRE(engine.await_ready());
    CHECK(engine.idle(5 * kHeartbeatTimeout_ms));
    CHECK(count(engine.sent(), std::string_view("\x04\x05\x04PONG", 7)) >= 5);
    CHECK_FALSE(monitor.await(ZMQ_EVENT_DISCONNECTED, 1).has_value());
    // The TTL of the last PING is the time after which the engine would judge a silent client dead.
    CHECK(engine.connection().judge(now()).has_value());
    CHECK_FALSE(engine.connection().judge(now() + milliseconds(701)).has_value());
    REQUIRE(send(client, {"still here"}));
    const auto request = engine.receive();
    REQUIRE(request.has_value());
    CHECK(request->back() == "still here");
  }
}

TEST_CASE("a libzmq client whose PINGs nobody answers hangs up: so the one above could fail") {
  MeetingPlace place(false);
  place.listen();
  zmq::socket_t client = new_client_with_heartbeat(zmq::socket_type::dealer);
  Monitor monitor(client);
  client.connect(place.endpoint());
  EnginePeer engine(place.accept(), as_server());
  REQUIRE(engine.await_ready());
  REQUIRE(monitor.await(ZMQ_EVENT_HANDSHAKE_SUCCEEDED).has_value());
  CHECK(monitor.await(ZMQ_EVENT_DISCONNECTED, 10 * kHeartbeatTimeout_ms).has_value());
}

TEST_CASE("libzmq answers the engine's PING with the context it was given") {
  MeetingPlace place(false);
  zmq::socket_t server = new_socket(zmq::socket_type::rep);
  server.bind(place.endpoint());
  EnginePeer engine(place.connect(), as_client_of(zmtp::SocketType::kRep));
  REQUIRE(engine.await_ready());
  REQUIRE(engine.connection().ping(30, as_bytes("sixteen bytes ok")));
  for (int turn = 0; turn < 100 && engine.connection().pongs_received() == 0; ++turn) REQUIRE(engine.idle(10));
  CHECK(engine.connection().pongs_received() == 1);
  CHECK(engine.connection().last_pong_context() == "sixteen bytes ok");
}

}  // namespace
}  // namespace mesh::interop
