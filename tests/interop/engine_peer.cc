#include "tests/interop/engine_peer.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <utility>

namespace mesh::interop {
namespace {

sockaddr_in loopback(uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

sockaddr_un path_of(const std::string& endpoint) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  endpoint.copy(address.sun_path, sizeof(address.sun_path) - 1, std::strlen("ipc://"));
  return address;
}

[[noreturn]] void give_up(const std::string& doing) { throw std::runtime_error(doing + ": " + std::strerror(errno)); }

template <class Address>
int bind_to(const Fd& fd, const Address& address) {
  return ::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address));
}

template <class Address>
int connect_to(const Fd& fd, const Address& address) {
  return ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address));
}

Fd new_socket(bool is_ipc) {
  Fd fd(::socket(is_ipc ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (fd.get() < 0) give_up("socket");
  return fd;
}

}  // namespace

Instant now() { return Instant(std::chrono::steady_clock::now().time_since_epoch()); }

zmtp::Settings as_server() {
  return {.own_type = zmtp::SocketType::kRouter,
          .accepted_peers = {zmtp::SocketType::kReq, zmtp::SocketType::kDealer},
          .identity = {}};
}

zmtp::Settings as_client_of(zmtp::SocketType agent) {
  return {.own_type = zmtp::SocketType::kDealer, .accepted_peers = {agent}, .identity = {}};
}

Fd::~Fd() {
  if (fd_ >= 0) ::close(fd_);
}

MeetingPlace::MeetingPlace(bool is_ipc) : is_ipc_(is_ipc) {
  if (is_ipc) {
    std::string pattern = "/tmp/mesh-interop-XXXXXX";
    if (::mkdtemp(pattern.data()) == nullptr) give_up("mkdtemp");
    directory_ = pattern;
    endpoint_ = "ipc://" + directory_ + "/socket";
    return;
  }
  // A port that the kernel just gave out and got back is not given out again soon.
  const Fd probe = new_socket(false);
  sockaddr_in address = loopback(0);
  socklen_t size = sizeof(address);
  if (bind_to(probe, address) != 0 || ::getsockname(probe.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    give_up("bind");
  }
  port_ = ntohs(address.sin_port);
  endpoint_ = "tcp://127.0.0.1:" + std::to_string(port_);
}

MeetingPlace::~MeetingPlace() {
  if (directory_.empty()) return;
  ::unlink((directory_ + "/socket").c_str());
  ::rmdir(directory_.c_str());
}

void MeetingPlace::listen() {
  listener_.emplace(new_socket(is_ipc_));
  const int on = 1;
  ::setsockopt(listener_->get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  const int bound = is_ipc_ ? bind_to(*listener_, path_of(endpoint_)) : bind_to(*listener_, loopback(port_));
  if (bound != 0 || ::listen(listener_->get(), 8) != 0) give_up("listen on " + endpoint_);
}

Fd MeetingPlace::accept() {
  pollfd wanted{.fd = listener_->get(), .events = POLLIN, .revents = 0};
  if (::poll(&wanted, 1, kPatience_ms) != 1) give_up("nobody connected to " + endpoint_);
  return Fd(::accept4(listener_->get(), nullptr, nullptr, SOCK_CLOEXEC));
}

Fd MeetingPlace::connect() const {
  const Instant deadline = now() + milliseconds(kPatience_ms);
  while (now() < deadline) {
    Fd fd = new_socket(is_ipc_);
    const int connected = is_ipc_ ? connect_to(fd, path_of(endpoint_)) : connect_to(fd, loopback(port_));
    if (connected == 0) return fd;
    ::poll(nullptr, 0, 10);
  }
  give_up("connect to " + endpoint_);
}

EnginePeer::EnginePeer(Fd fd, zmtp::Settings settings)
    : fd_(std::move(fd)), connection_(std::move(settings), out_, now()) {
  flush();
}

void EnginePeer::flush() {
  while (!out_.empty()) {
    const Slice& chunk = out_.chunks().front();
    const ssize_t written = ::send(fd_.get(), chunk.data(), chunk.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (written < 0) {
      if (errno != EAGAIN) closed_ = true;
      return;
    }
    sent_.append(reinterpret_cast<const char*>(chunk.data()), static_cast<size_t>(written));
    out_.drop_front(static_cast<size_t>(written));
  }
}

bool EnginePeer::await_readable(Instant deadline) {
  while (!closed_) {
    flush();
    const Duration left = deadline - now();
    if (left <= Duration{0}) return false;
    const auto events = static_cast<short>(POLLIN | (out_.empty() ? 0 : POLLOUT));
    pollfd wanted{.fd = fd_.get(), .events = events, .revents = 0};
    if (::poll(&wanted, 1, static_cast<int>(to_ms_up(left))) == 1 && (wanted.revents & ~POLLOUT) != 0) return true;
  }
  return false;
}

bool EnginePeer::read_some() {
  if (const auto target = connection_.read_target(); !target.empty()) {
    const ssize_t got = ::read(fd_.get(), target.data(), target.size());
    if (got > 0) connection_.commit(static_cast<size_t>(got), now());
    return got > 0;
  }
  BlockRef block = Block::allocate(limits::read_block_bytes);
  uint8_t* data = block->data();
  const ssize_t got = ::read(fd_.get(), data, block->capacity());
  if (got > 0) connection_.feed(Slice(std::move(block), data, static_cast<size_t>(got)), now());
  return got > 0;
}

std::optional<Frames> EnginePeer::next() {
  auto message = connection_.next();
  if (!message) {
    error_ = message.error();
    flush();
    return std::nullopt;
  }
  if (*message == nullptr) return std::nullopt;
  Frames frames;
  for (const Slice& frame : (*message)->frames()) frames.emplace_back(frame.text());
  return frames;
}

bool EnginePeer::await_ready() {
  const Instant deadline = now() + milliseconds(kPatience_ms);
  while (!connection_.ready() && !error_ && !closed_) {
    if (!await_readable(deadline)) return false;
    if (!read_some()) {
      closed_ = true;
      return false;
    }
    early_ = next();  // libzmq sends what was queued together with its READY
  }
  flush();
  return connection_.ready();
}

std::optional<Frames> EnginePeer::receive(int patience_ms) {
  if (early_) return std::exchange(early_, std::nullopt);
  const Instant deadline = now() + milliseconds(patience_ms);
  while (!error_) {
    if (auto message = next()) return message;
    if (error_ || !await_readable(deadline)) return std::nullopt;
    if (!read_some()) closed_ = true;
  }
  return std::nullopt;
}

void EnginePeer::send(const Frames& frames) {
  std::vector<Slice> slices;
  slices.reserve(frames.size());
  for (const std::string& frame : frames) slices.push_back(Slice::copy_of(frame));
  connection_.send(slices);
  for (flush(); !out_.empty() && !closed_; flush()) {
    pollfd wanted{.fd = fd_.get(), .events = POLLOUT, .revents = 0};
    if (::poll(&wanted, 1, kPatience_ms) != 1) give_up("the peer reads no more");
  }
}

}  // namespace mesh::interop
