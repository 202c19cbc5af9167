// The engine of common/zmtp on a plain socket: what the sidecar's driver does with libuv, done here with poll, so that
// a test can sit across from libzmq with nothing of the sidecar in between.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "common/zmtp/connection.h"

namespace mesh::interop {

using Frames = std::vector<std::string>;

// How long any step may take before the test fails, in ms; libzmq on loopback needs about one.
inline constexpr int kPatience_ms = 5000;

// A file descriptor, closed with this.
class Fd {
 public:
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(other.fd_) { other.fd_ = -1; }
  Fd& operator=(Fd&&) = delete;
  ~Fd();
  int get() const { return fd_; }

 private:
  int fd_;
};

// Where libzmq and the engine meet: a tcp port or an ipc path of its own, free for either side to bind.
class MeetingPlace {
 public:
  explicit MeetingPlace(bool is_ipc);
  MeetingPlace(const MeetingPlace&) = delete;
  MeetingPlace& operator=(const MeetingPlace&) = delete;
  ~MeetingPlace();

  // As libzmq writes it, e.g. "tcp://127.0.0.1:5701".
  const std::string& endpoint() const { return endpoint_; }
  // The engine's side binds and listens; a libzmq client may connect from then on.
  void listen();
  // The next connection of a client; fails the test after kPatience_ms.
  Fd accept();
  // The engine's side connects to a libzmq server, trying again until it listens.
  Fd connect() const;

 private:
  bool is_ipc_;
  std::string directory_;
  std::string endpoint_;
  uint16_t port_ = 0;
  std::optional<Fd> listener_;
};

class EnginePeer {
 public:
  EnginePeer(Fd fd, zmtp::Settings settings);
  EnginePeer(const EnginePeer&) = delete;
  EnginePeer& operator=(const EnginePeer&) = delete;

  // Reads and writes until the handshake is done; false if it ended in error() or took too long.
  bool await_ready();
  // The next message; nothing if the connection ended, see error() and closed(), or none came within `patience_ms`.
  std::optional<Frames> receive(int patience_ms = kPatience_ms);
  // Sends one message and waits until the kernel has all of it. Only when ready().
  void send(const Frames& frames);
  // Answers what comes for a while; false if the connection ended or a message came meanwhile.
  bool idle(int for_ms) { return !receive(for_ms) && !error_ && !closed_; }

  zmtp::Connection& connection() { return connection_; }
  const std::optional<Error>& error() const { return error_; }
  // The peer hung up.
  bool closed() const { return closed_; }
  // Every byte that this side put on the wire so far.
  const std::string& sent() const { return sent_; }

 private:
  void flush();
  bool read_some();
  std::optional<Frames> next();
  // Waits until readable, writing meanwhile; false when `deadline` passes.
  bool await_readable(Instant deadline);

  Fd fd_;
  Outbox out_;
  zmtp::Connection connection_;
  std::optional<Error> error_;
  bool closed_ = false;
  std::optional<Frames> early_;
  std::string sent_;
};

// This process's monotonic clock.
Instant now();

// The sidecar's two roles: the server of drop-in ports, and the client of an agent.
zmtp::Settings as_server();
zmtp::Settings as_client_of(zmtp::SocketType agent);

}  // namespace mesh::interop
