// Sockets that have no place at a drop-in port or behind an agent's entry: what the engine says to them, and what
// libzmq makes of it.
//
// libzmq 4.3.4 has no HANDSHAKE_FAILED event for a wrong type: its NULL mechanism reports neither an ERROR nor a READY
// with a type that it cannot talk to, and its engine reports no protocol errors, taking them for reported. Its monitor
// shows a DISCONNECTED that no HANDSHAKE_SUCCEEDED went before; but ROUTER may talk to a ROUTER, so it takes the
// engine's READY for the end of the handshake, until the connection ends behind the ERROR.
#include <doctest/doctest.h>

#include <string>
#include <string_view>
#include <tuple>

#include "tests/interop/libzmq_side.h"

namespace mesh::interop {
namespace {

constexpr int kHandshakeFailed =
    ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL | ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH;

std::string error_frame(const std::string& reason) {
  std::string body =
      "\x05"
      "ERROR";
  body.push_back(static_cast<char>(reason.size()));
  body += reason;
  return std::string{zmtp::kFlagCommand, static_cast<char>(body.size())} + body;
}

struct Kind {
  zmq::socket_type type;
  std::string_view name;
};

TEST_CASE("a socket of a wrong type is told in an ERROR which types have a place, and hung up on") {
  for (const auto& [type, name] :
       {Kind{zmq::socket_type::sub, "SUB"}, Kind{zmq::socket_type::push, "PUSH"}, Kind{zmq::socket_type::pair, "PAIR"},
        Kind{zmq::socket_type::router, "ROUTER"}, Kind{zmq::socket_type::rep, "REP"}}) {
    CAPTURE(name);
    MeetingPlace place(false);
    place.listen();
    zmq::socket_t client = new_socket(type);
    Monitor monitor(client);
    client.connect(place.endpoint());
    {
      EnginePeer engine(place.accept(), as_server());
      CHECK_FALSE(engine.await_ready());
      REQUIRE(engine.error().has_value());
      const std::string reason = "this port talks to REQ or DEALER sockets, not to " + std::string(name);
      CHECK(engine.error()->rule == "socket_type");
      CHECK(engine.error()->text == reason);
      CHECK(std::string_view(engine.sent()).ends_with(error_frame(reason)));
    }
    auto event = monitor.await(ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_DISCONNECTED | kHandshakeFailed);
    REQUIRE(event.has_value());
    if (type == zmq::socket_type::router && event->number == ZMQ_EVENT_HANDSHAKE_SUCCEEDED) {
      event = monitor.await(ZMQ_EVENT_DISCONNECTED);
    }
    REQUIRE(event.has_value());
    CHECK(event->number != ZMQ_EVENT_HANDSHAKE_SUCCEEDED);
  }
}

TEST_CASE("a client that wants another security mechanism sees its handshake fail") {
  MeetingPlace place(false);
  place.listen();
  zmq::socket_t client = new_socket(zmq::socket_type::req);
  client.set(zmq::sockopt::plain_username, "someone");
  client.set(zmq::sockopt::plain_password, "something");
  Monitor monitor(client);
  client.connect(place.endpoint());
  EnginePeer engine(place.accept(), as_server());
  CHECK_FALSE(engine.await_ready());  // whichever of the two sees the other's greeting first hangs up
  const auto event = monitor.await(kHandshakeFailed | ZMQ_EVENT_HANDSHAKE_SUCCEEDED);
  REQUIRE(event.has_value());
  CHECK(event->number == ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL);
  CHECK(event->value == ZMQ_PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH);
}

TEST_CASE("an agent whose socket is not what its entry says is refused by name, whichever of the two it is") {
  for (const auto& [type, name, expected] : {std::tuple{zmq::socket_type::router, "ROUTER", zmtp::SocketType::kRep},
                                             {zmq::socket_type::rep, "REP", zmtp::SocketType::kRouter},
                                             {zmq::socket_type::pub, "PUB", zmtp::SocketType::kRep},
                                             {zmq::socket_type::pull, "PULL", zmtp::SocketType::kDealer}}) {
    CAPTURE(name);
    MeetingPlace place(false);
    zmq::socket_t server = new_socket(type);
    server.bind(place.endpoint());
    EnginePeer engine(place.connect(), as_client_of(expected));
    CHECK_FALSE(engine.await_ready());
    REQUIRE(engine.error().has_value());
    CHECK(engine.error()->rule == "socket_type");
    CHECK(engine.error()->text.ends_with("not to " + std::string(name)));
    CHECK(std::string_view(engine.sent()).ends_with(error_frame(engine.error()->text)));
  }
}

}  // namespace
}  // namespace mesh::interop
