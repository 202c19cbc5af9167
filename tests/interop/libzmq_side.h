// What these tests need of libzmq around cppzmq's sockets.
#pragma once

#include <cstring>
#include <iterator>
#include <optional>
#include <string>
#include <vector>
#include <zmq.hpp>
#include <zmq_addon.hpp>

#include "tests/interop/engine_peer.h"

namespace mesh::interop {

inline zmq::context_t& context() {
  static zmq::context_t shared;
  return shared;
}

// A libzmq socket that neither lingers nor waits for ever.
inline zmq::socket_t new_socket(zmq::socket_type type) {
  zmq::socket_t socket(context(), type);
  socket.set(zmq::sockopt::linger, 0);
  socket.set(zmq::sockopt::rcvtimeo, kPatience_ms);
  socket.set(zmq::sockopt::sndtimeo, kPatience_ms);
  return socket;
}

inline bool send(zmq::socket_t& socket, const Frames& frames) {
  std::vector<zmq::const_buffer> parts;
  for (const std::string& frame : frames) parts.push_back(zmq::buffer(frame));
  return zmq::send_multipart(socket, parts).has_value();
}

// Nothing if none came in time.
inline std::optional<Frames> receive(zmq::socket_t& socket) {
  std::vector<zmq::message_t> parts;
  if (!zmq::recv_multipart(socket, std::back_inserter(parts))) return std::nullopt;
  Frames frames;
  for (const zmq::message_t& part : parts) frames.push_back(part.to_string());
  return frames;
}

// The events that a libzmq socket reports of its connections.
class Monitor {
 public:
  struct Event {
    uint16_t number;
    uint32_t value;
  };

  // `socket` must outlive this.
  explicit Monitor(zmq::socket_t& socket) : socket_(socket), events_(context(), zmq::socket_type::pair) {
    static int count = 0;
    const std::string name = "inproc://monitor" + std::to_string(++count);
    if (zmq_socket_monitor(socket.handle(), name.c_str(), ZMQ_EVENT_ALL) != 0) throw zmq::error_t();
    events_.set(zmq::sockopt::linger, 0);
    events_.connect(name);
  }

  // libzmq's I/O thread waits for ever on a monitor that nobody reads: so it is stopped before its reader goes.
  ~Monitor() { zmq_socket_monitor(socket_.handle(), nullptr, 0); }
  Monitor(const Monitor&) = delete;
  Monitor& operator=(const Monitor&) = delete;

  // The next event that is one of `wanted`; nothing if none came in time.
  std::optional<Event> await(int wanted, int patience_ms = kPatience_ms) {
    const Instant deadline = now() + milliseconds(patience_ms);
    while (now() < deadline) {
      events_.set(zmq::sockopt::rcvtimeo, static_cast<int>(to_ms_up(deadline - now())));
      const auto frames = receive(events_);
      if (!frames) break;
      Event event{};
      std::memcpy(&event.number, frames->at(0).data(), sizeof(event.number));
      std::memcpy(&event.value, frames->at(0).data() + sizeof(event.number), sizeof(event.value));
      if ((event.number & wanted) != 0) return event;
    }
    return std::nullopt;
  }

 private:
  zmq::socket_t& socket_;
  zmq::socket_t events_;
};

// Bodies at the edges of the framing and beyond one read; the engine must not look into them.
inline std::vector<std::string> bodies() {
  const auto patterned = [](size_t size) {
    std::string body(size, '\0');
    for (size_t i = 0; i < size; ++i) body[i] = static_cast<char>(i * 131 + (i >> 8) * 31);
    return body;
  };
  return {"",
          "x",
          "\xff\xfe\xc0\xaf\xed\xa0\x80 no UTF-8",
          patterned(255),
          patterned(256),
          patterned(64 * limits::KiB),
          patterned(limits::MiB)};
}

}  // namespace mesh::interop
