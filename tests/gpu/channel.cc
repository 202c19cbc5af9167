#include "tests/gpu/channel.h"

#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

namespace mesh::facts {
namespace {

constexpr size_t kTextBytesMax = 4096;

struct Message {
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  iovec piece{};
  msghdr header{};
  Message(char* text, size_t size) {
    piece = {.iov_base = text, .iov_len = size};
    header.msg_iov = &piece;
    header.msg_iovlen = 1;
  }
};

}  // namespace

bool send_packet(int socket, const std::string& text, int fd) {
  std::string copy = text.substr(0, kTextBytesMax);
  Message message(copy.data(), copy.size());
  if (fd >= 0) {
    message.header.msg_control = message.control;
    message.header.msg_controllen = sizeof(message.control);
    cmsghdr* const head = CMSG_FIRSTHDR(&message.header);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(head), &fd, sizeof(fd));
  }
  return sendmsg(socket, &message.header, MSG_NOSIGNAL) == static_cast<ssize_t>(copy.size());
}

std::optional<Packet> receive_packet(int socket, int timeout_ms) {
  pollfd waiting{.fd = socket, .events = POLLIN, .revents = 0};
  if (poll(&waiting, 1, timeout_ms) <= 0) return std::nullopt;
  std::string text(kTextBytesMax, '\0');
  Message message(text.data(), text.size());
  message.header.msg_control = message.control;
  message.header.msg_controllen = sizeof(message.control);
  const ssize_t size = recvmsg(socket, &message.header, MSG_CMSG_CLOEXEC);
  if (size <= 0) return std::nullopt;
  text.resize(static_cast<size_t>(size));
  Packet packet{.text = std::move(text), .fd = {}};
  const cmsghdr* const head = CMSG_FIRSTHDR(&message.header);
  if (head != nullptr && head->cmsg_type == SCM_RIGHTS) {
    int fd = -1;
    std::memcpy(&fd, CMSG_DATA(head), sizeof(fd));
    packet.fd.reset(fd);
  }
  return packet;
}

}  // namespace mesh::facts
