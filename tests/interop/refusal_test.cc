// Sockets that have no place at a drop-in port: what the engine says to them, and what libzmq makes of it.
#include <doctest/doctest.h>

#include <string>
#include <string_view>

#include "tests/interop/libzmq_side.h"

namespace mesh::interop {
namespace {

constexpr int kHandshakeFailed =
    ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL | ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH;

struct Refused {
  zmq::socket_type type;
  std::string_view name;
};

TEST_CASE("a socket of a wrong type sees its handshake fail and is told in an ERROR which types have a place") {
  for (const auto& [type, name] :
       {Refused{zmq::socket_type::sub, "SUB"}, Refused{zmq::socket_type::push, "PUSH"},
        Refused{zmq::socket_type::pair, "PAIR"}, Refused{zmq::socket_type::router, "ROUTER"},
        Refused{zmq::socket_type::rep, "REP"}}) {
    CAPTURE(name);
    MeetingPlace place(false);
    place.listen();
    zmq::socket_t client = new_socket(type);
    Monitor monitor(client);
    client.connect(place.endpoint());
    EnginePeer engine(place.accept(), as_server());
    CHECK_FALSE(engine.await_ready());
    REQUIRE(engine.error().has_value());
    const std::string text = "this port talks to REQ or DEALER sockets, not to " + std::string(name);
    CHECK(engine.error()->rule == "socket_type");
    CHECK(engine.error()->text == text);
    std::string frame = "\x05" "ERROR";
    frame.push_back(static_cast<char>(text.size()));
    frame += text;
    frame.insert(0, 1, static_cast<char>(frame.size())).insert(0, 1, '\x04');
    CHECK(std::string_view(engine.sent()).ends_with(frame));
    const auto event = monitor.await(kHandshakeFailed | ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_DISCONNECTED);
    REQUIRE(event.has_value());
    MESSAGE(name << " " << event->number << " " << event->value);
  }
}

}  // namespace
}  // namespace mesh::interop
