#include "tools/meshctl/link_socket.h"

#include <unistd.h>

#include <cerrno>
#include <utility>

#include "common/base/limits.h"

namespace mesh::ctl {

std::string zmq_address(const Endpoint& endpoint) {
  if (endpoint.is_ipc) return "ipc://" + endpoint.address;
  std::string address = endpoint.address;
  if (address == "0.0.0.0") address = "127.0.0.1";
  if (address == "::") address = "::1";
  if (address.find(':') != std::string::npos) address = "[" + address + "]";
  return "tcp://" + address + ":" + std::to_string(endpoint.port);
}

zmq::socket_t open_socket(zmq::context_t& context, zmq::socket_type type, const std::string& address, int wait_ms) {
  zmq::socket_t socket(context, type);
  socket.set(zmq::sockopt::linger, 0);
  socket.set(zmq::sockopt::rcvtimeo, wait_ms);
  socket.set(zmq::sockopt::sndtimeo, wait_ms);
  if (address.starts_with("tcp://[")) socket.set(zmq::sockopt::ipv6, 1);
  socket.connect(address);
  return socket;
}

bool receive_frame(zmq::socket_t& socket, zmq::message_t& frame) {
  try {
    return socket.recv(frame).has_value();
  } catch (const zmq::error_t& error) {
    if (error.num() == EINTR) return false;
    throw;
  }
}

LinkSocket::LinkSocket(zmq::context_t& context, const Endpoint& endpoint, int wait_ms)
    : socket_(open_socket(context, zmq::socket_type::dealer, zmq_address(endpoint), wait_ms)) {
  wire::Hello hello;
  hello.epoch = static_cast<uint64_t>(getpid());
  hello.batch_bytes = limits::batch_bytes;
  hello.message_bytes = limits::message_bytes;
  hello.host = "meshctl";
  hello.sidecar = "probe";
  send({.kind = wire::Kind::kHello, .hello = &hello});
}

bool LinkSocket::send(const wire::Envelope& envelope) {
  wire::BatchEncoder batch;
  batch.add(envelope);
  const auto frames = batch.seal(nullptr);
  try {
    for (size_t i = 0; i < frames.size(); ++i) {
      const auto flags = i + 1 < frames.size() ? zmq::send_flags::sndmore : zmq::send_flags::none;
      if (!socket_.send(zmq::const_buffer(frames[i].data(), frames[i].size()), flags)) return false;
    }
  } catch (const zmq::error_t& error) {
    if (error.num() == EINTR) return false;
    throw;
  }
  return true;
}

bool LinkSocket::receive_batch() {
  frames_.clear();
  zmq::message_t frame;
  do {
    if (!receive_frame(socket_, frame)) return false;
    frames_.push_back(Slice::copy_of(frame.to_string_view()));
  } while (frame.more());
  return true;
}

Result<const wire::Envelope*> LinkSocket::receive() {
  while (true) {
    if (!std::exchange(in_batch_, true)) {
      if (!receive_batch()) {
        in_batch_ = false;
        return nullptr;
      }
      if (auto begun = decoder_.begin(frames_); !begun) return Unexpected(begun.error());
    }
    auto envelope = decoder_.next();
    if (!envelope || *envelope != nullptr) return envelope;
    in_batch_ = false;
  }
}

Result<wire::Hello> LinkSocket::await_hello() {
  while (true) {
    const auto envelope = receive();
    if (!envelope) return Unexpected(envelope.error());
    if (*envelope == nullptr) break;
    if ((*envelope)->kind == wire::Kind::kHello && (*envelope)->hello != nullptr) return *(*envelope)->hello;
  }
  return fail(Code::kNotSent, "hello_missing", "no sidecar says hello there");
}

}  // namespace mesh::ctl
