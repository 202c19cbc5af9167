// Sockets that have no place at a drop-in port or behind an agent's entry: what the engine says to them, and what
// libzmq makes of it.
//
// A wrong type is no HANDSHAKE_FAILED event of libzmq 4.3.4: it takes an ERROR, and a READY that names a type it cannot
// talk to, for protocol errors that were reported where they occurred, and neither was. What its monitor shows is a
// DISCONNECTED; before it there is a HANDSHAKE_SUCCEEDED only for ROUTER, which may talk to a ROUTER and so takes the
// engine's READY for the end of the handshake, until it reads the ERROR behind it.
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
