#include "sidecar/io/packet_socket.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <uv.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "common/base/check.h"
#include "common/base/limits.h"
#include "sidecar/io/loop.h"

namespace mesh::io {
namespace {

constexpr size_t kDescriptorsMax = 253;  // SCM_MAX_FD
constexpr int kAcceptsPerTurn = 16;

// True if it left, or never can; then `broken` says so.
bool send_packet(int socket, std::string_view bytes, std::span<const int> descriptors, bool& broken) {
  MESH_CHECK(descriptors.size() <= kDescriptorsMax);
  iovec part{const_cast<char*>(bytes.data()), bytes.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(kDescriptorsMax * sizeof(int))> control;
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (!descriptors.empty()) {
    message.msg_control = control.data();
    message.msg_controllen = CMSG_SPACE(descriptors.size_bytes());
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(descriptors.size_bytes());
    std::memcpy(CMSG_DATA(header), descriptors.data(), descriptors.size_bytes());
  }
  ssize_t sent = 0;
  do {
    sent = sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  if (sent < 0 && (errno == EAGAIN || errno == ENOBUFS)) return false;
  broken = sent < 0;
  return true;
}

}  // namespace

struct PacketSocket::Poll {
  uv_poll_t handle;
  OwnedFd fd;
  PacketSocket* owner = nullptr;
};

PacketSocket::PacketSocket(Loop& loop, OwnedFd fd, size_t packet_bytes_max)
    : poll_(new Poll{}), buffer_(packet_bytes_max + 1) {
  poll_->fd = std::move(fd);
  poll_->owner = this;
  poll_->handle.data = poll_;
  MESH_CHECK(uv_poll_init(loop.handle(), &poll_->handle, poll_->fd.get()) == 0);
}

PacketSocket::~PacketSocket() {
  poll_->owner = nullptr;
  uv_close(reinterpret_cast<uv_handle_t*>(&poll_->handle),
           [](uv_handle_t* closed) { delete static_cast<Poll*>(closed->data); });
}

void PacketSocket::begin(PacketObserver& observer) {
  observer_ = &observer;
  watch();
}

void PacketSocket::watch() {
  const int events = UV_READABLE | (queue_.empty() ? 0 : UV_WRITABLE);
  uv_poll_start(&poll_->handle, events, [](uv_poll_t* handle, int status, int ready) {
    PacketSocket* const owner = static_cast<Poll*>(handle->data)->owner;
    if (owner == nullptr) return;
    // An error is told by the read that meets it.
    owner->on_ready(status < 0 ? UV_READABLE : ready);
  });
}

void PacketSocket::on_ready(int events) {
  if ((events & UV_WRITABLE) != 0) write();
  if (is_broken_) return end("broken");
  if ((events & UV_READABLE) != 0) read();
}

void PacketSocket::read() {
  Poll* const poll = poll_;  // the observer may destroy this socket
  for (int i = 0; i < kPacketsPerTurn && poll->owner == this; ++i) {
    iovec part{buffer_.data(), buffer_.size()};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    const ssize_t got = recvmsg(poll->fd.get(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    // The other end was killed before it had read all; what it had sent is still there.
    if (got < 0 && errno == ECONNRESET && !std::exchange(was_reset_, true)) continue;
    if (got < 0) return end(std::strerror(errno));
    if (got == 0 && (message.msg_flags & MSG_CTRUNC) == 0) return end("closed by the other end");
    const bool is_cut = (message.msg_flags & MSG_TRUNC) != 0;
    observer_->on_packet({buffer_.data(), static_cast<size_t>(got)}, is_cut, (message.msg_flags & MSG_CTRUNC) != 0);
  }
}

bool PacketSocket::send(std::string_view bytes, std::span<const int> descriptors) {
  if (is_broken_) return false;
  if (queue_.empty() && send_packet(poll_->fd.get(), bytes, descriptors, is_broken_)) return !is_broken_;
  if (queue_.size() >= kQueuedPacketsMax || queued_descriptors_ + descriptors.size() > kQueuedDescriptorsMax)
    return false;
  Waiting waiting{std::string(bytes), {}};
  for (const int descriptor : descriptors) {
    waiting.descriptors.emplace_back(fcntl(descriptor, F_DUPFD_CLOEXEC, 0));
    if (!waiting.descriptors.back()) return false;
  }
  queued_descriptors_ += descriptors.size();
  queue_.push_back(std::move(waiting));
  if (queue_.size() == 1) watch();
  return true;
}

void PacketSocket::write() {
  while (!queue_.empty() && !is_broken_) {
    std::vector<int> descriptors;
    for (const OwnedFd& each : queue_.front().descriptors) descriptors.push_back(each.get());
    if (!send_packet(poll_->fd.get(), queue_.front().bytes, descriptors, is_broken_)) return;
    queued_descriptors_ -= descriptors.size();
    queue_.pop_front();
  }
  watch();
}

void PacketSocket::end(std::string_view reason) {
  uv_poll_stop(&poll_->handle);
  is_broken_ = true;
  observer_->on_closed(reason);
}

struct PacketListener::Poll {
  uv_poll_t handle;
  OwnedFd fd;
  PacketAcceptObserver* observer = nullptr;

  void accept_some() {
    for (int i = 0; i < kAcceptsPerTurn && observer != nullptr; ++i) {
      OwnedFd accepted(accept4(fd.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
      if (!accepted) return;
      observer->on_accepted(std::move(accepted));
    }
  }
};

Result<std::unique_ptr<PacketListener>> PacketListener::open(Loop& loop, const std::string& path, uint32_t mode,
                                                             PacketAcceptObserver& observer) {
  const auto cannot = [&](std::string why) {
    return fail(Code::kInternal, "listen", "cannot listen on " + path + ": " + why);
  };
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) return cannot("the path is longer than a socket's may be");
  std::memcpy(address.sun_path, path.data(), path.size());
  OwnedFd fd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return cannot(std::strerror(errno));
  unlink(path.c_str());  // who opens it has made sure that no other process has it
  // Nobody may connect between bind and chmod.
  const mode_t before = umask(0777 & ~static_cast<mode_t>(mode));
  const int bound = bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  umask(before);
  if (bound != 0 || ::listen(fd.get(), limits::listen_backlog) != 0) return cannot(std::strerror(errno));
  auto* const poll = new Poll{};
  poll->fd = std::move(fd);
  poll->observer = &observer;
  poll->handle.data = poll;
  MESH_CHECK(uv_poll_init(loop.handle(), &poll->handle, poll->fd.get()) == 0);
  uv_poll_start(&poll->handle, UV_READABLE,
                [](uv_poll_t* handle, int, int) { static_cast<Poll*>(handle->data)->accept_some(); });
  return std::unique_ptr<PacketListener>(new PacketListener(poll, path));
}

PacketListener::~PacketListener() {
  poll_->observer = nullptr;
  uv_close(reinterpret_cast<uv_handle_t*>(&poll_->handle),
           [](uv_handle_t* closed) { delete static_cast<Poll*>(closed->data); });
  unlink(path_.c_str());
}

}  // namespace mesh::io
