// mesh-bench-relay: passes bytes on unread, with one thread, plain sockets and epoll. Nothing that looks at messages
// can cost less, so a pair of these is the limit in the benchmark's table. Prints "listening ENDPOINT", runs until
// killed.
//
// Each direction is read, written at once, and only what the kernel did not take is kept; while something is kept, its
// source is not read. With one request outstanding that is epoll_wait, recv and send per direction.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstdint>
#include <iostream>
#include <memory>
#include <stdexcept>
#include <string_view>
#include <system_error>
#include <vector>

namespace {

constexpr size_t kReadBytes = size_t{256} * 1024;
constexpr std::string_view kLoopbackPrefix = "tcp://127.0.0.1:";

[[noreturn]] void fail(const char* what) { throw std::system_error(errno, std::generic_category(), what); }

// A port of 0 or * lets the kernel choose.
sockaddr_in parse_endpoint(std::string_view endpoint) {
  if (!endpoint.starts_with(kLoopbackPrefix)) throw std::invalid_argument("an endpoint must be tcp://127.0.0.1:PORT");
  endpoint.remove_prefix(kLoopbackPrefix.size());
  uint16_t port = 0;
  if (endpoint != "*") {
    const auto [end, error] = std::from_chars(endpoint.data(), endpoint.data() + endpoint.size(), port);
    if (error != std::errc() || end != endpoint.data() + endpoint.size()) throw std::invalid_argument("bad port");
  }
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

// One socket of a relayed connection.
struct Side {
  int fd = -1;
  Side* other = nullptr;
  std::vector<char> unsent;  // bytes for this socket that the kernel did not take
  size_t unsent_from = 0;
  uint32_t watched = 0;  // epoll events now asked for

  bool has_unsent() const { return unsent_from < unsent.size(); }
};

struct Connection {
  std::array<Side, 2> sides;
  bool closed = false;
};

class Relay {
 public:
  Relay(const sockaddr_in& listen, const sockaddr_in& target)
      : target_(target), epoll_(epoll_create1(EPOLL_CLOEXEC)), buffer_(kReadBytes) {
    if (epoll_ < 0) fail("epoll_create1");
    listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const int on = 1;
    setsockopt(listener_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener_, reinterpret_cast<const sockaddr*>(&listen), sizeof listen) != 0) fail("bind");
    if (::listen(listener_, SOMAXCONN) != 0) fail("listen");
    watch(listener_, EPOLL_CTL_ADD, EPOLLIN, nullptr);
  }

  uint16_t port() const {
    sockaddr_in address{};
    socklen_t size = sizeof address;
    if (getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) != 0) fail("getsockname");
    return ntohs(address.sin_port);
  }

  [[noreturn]] void run() {
    std::array<epoll_event, 64> events;
    for (;;) {
      const int count = epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), -1);
      for (int i = 0; i < count; ++i) {
        const epoll_event& event = events[static_cast<size_t>(i)];
        auto* side = static_cast<Side*>(event.data.ptr);
        if (side == nullptr) {
          accept_one();
        } else {
          on_ready(*side, event.events);
        }
      }
      // Only now, since a later event of the same turn may still point to one of its sides.
      if (any_closed_) {
        std::erase_if(connections_, [](const auto& connection) { return connection->closed; });
        any_closed_ = false;
      }
    }
  }

 private:
  void watch(int fd, int operation, uint32_t events, Side* side) {
    epoll_event event{};
    event.events = events;
    event.data.ptr = side;
    if (epoll_ctl(epoll_, operation, fd, &event) != 0) fail("epoll_ctl");
  }

  void accept_one() {
    const int near = accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (near < 0) return;  // the client left before we looked
    const int far = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    // Connecting may wait here: over loopback it is done in microseconds, and the benchmark times nothing yet.
    if (far < 0 || connect(far, reinterpret_cast<const sockaddr*>(&target_), sizeof target_) != 0) {
      if (far >= 0) close(far);
      close(near);
      return;
    }
    const int on = 1;
    setsockopt(near, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(far, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    auto connection = std::make_unique<Connection>();
    auto& [a, b] = connection->sides;
    a.fd = near;
    b.fd = far;
    a.other = &b;
    b.other = &a;
    for (Side& side : connection->sides) {
      side.watched = EPOLLIN;
      watch(side.fd, EPOLL_CTL_ADD, EPOLLIN, &side);
    }
    connections_.push_back(std::move(connection));
  }

  void on_ready(Side& side, uint32_t events) {
    if (side.fd < 0) return;  // closed earlier in this turn
    bool alive = true;
    if ((events & EPOLLOUT) != 0) alive = send_unsent(side);
    if (alive && (events & EPOLLIN) != 0 && !side.other->has_unsent()) alive = pass_on(side);
    if ((events & (EPOLLHUP | EPOLLERR)) != 0) alive = false;  // closed both ways: nobody is left to send to
    if (!alive) return close_connection(side);
    update(side);
    update(*side.other);
  }

  // Returns false when the connection is over.
  bool pass_on(Side& from) {
    const ssize_t got = recv(from.fd, buffer_.data(), buffer_.size(), MSG_DONTWAIT);
    if (got == 0) return false;
    if (got < 0) return errno == EAGAIN || errno == EINTR;
    ssize_t sent = ::send(from.other->fd, buffer_.data(), static_cast<size_t>(got), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN && errno != EINTR) return false;
    sent = sent < 0 ? 0 : sent;
    if (sent < got) {
      from.other->unsent.assign(buffer_.begin() + sent, buffer_.begin() + got);
      from.other->unsent_from = 0;
    }
    return true;
  }

  bool send_unsent(Side& side) {
    const ssize_t sent = ::send(side.fd, side.unsent.data() + side.unsent_from, side.unsent.size() - side.unsent_from,
                                MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0) return errno == EAGAIN || errno == EINTR;
    side.unsent_from += static_cast<size_t>(sent);
    if (!side.has_unsent()) {
      side.unsent.clear();
      side.unsent_from = 0;
    }
    return true;
  }

  void update(Side& side) {
    const uint32_t wanted =
        (side.other->has_unsent() ? 0U : uint32_t{EPOLLIN}) | (side.has_unsent() ? uint32_t{EPOLLOUT} : 0U);
    if (wanted == side.watched) return;
    side.watched = wanted;
    watch(side.fd, EPOLL_CTL_MOD, wanted, &side);
  }

  void close_connection(const Side& side) {
    for (auto& connection : connections_) {
      auto& [a, b] = connection->sides;
      if (&side != &a && &side != &b) continue;
      for (Side& end : connection->sides) {
        close(end.fd);
        end.fd = -1;
      }
      connection->closed = true;
      any_closed_ = true;
    }
  }

  sockaddr_in target_;
  int epoll_;
  int listener_ = -1;
  std::vector<char> buffer_;
  std::vector<std::unique_ptr<Connection>> connections_;
  bool any_closed_ = false;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: mesh-bench-relay LISTEN TARGET   (tcp://127.0.0.1:* takes a free port)\n";
    return 64;
  }
  try {
    Relay relay(parse_endpoint(argv[1]), parse_endpoint(argv[2]));
    std::cout << "listening " << kLoopbackPrefix << relay.port() << std::endl;
    relay.run();
  } catch (const std::exception& error) {
    std::cerr << "mesh-bench-relay: " << error.what() << '\n';
    return 1;
  }
}
