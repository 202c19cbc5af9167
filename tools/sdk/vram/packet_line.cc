#include "tools/sdk/vram/packet_line.h"

#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

namespace mesh::sdk {
namespace {

// As the arbiter keeps them.
constexpr size_t kPacketBytesMax = 32 * 1024;
constexpr size_t kDescriptorsMax = 253;

}  // namespace

int left_ms(Clock::time_point until) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now()).count();
  return static_cast<int>(std::clamp<int64_t>(left, 0, 1'000'000'000));
}

PacketLine PacketLine::open(const std::string& path) {
  PacketLine line;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) return errno = ENAMETOOLONG, PacketLine();
  std::memcpy(address.sun_path, path.data(), path.size());
  line.fd_.reset(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  const timeval second{.tv_sec = 1, .tv_usec = 0};
  setsockopt(line.fd_.get(), SOL_SOCKET, SO_SNDTIMEO, &second, sizeof(second));
  if (connect(line.fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0) return line;
  const int why = errno;
  line.fd_.reset();
  errno = why;
  return line;
}

bool PacketLine::send(const pb::Request& request) const {
  const std::string bytes = request.SerializeAsString();
  ssize_t sent = -1;
  do {
    sent = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  return sent >= 0;
}

PacketLine::Got PacketLine::receive(Packet& packet) const {
  std::array<char, kPacketBytesMax> buffer;
  alignas(cmsghdr) std::array<char, CMSG_SPACE(kDescriptorsMax * sizeof(int))> control;
  iovec part{buffer.data(), buffer.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  ssize_t got = -1;
  int tries = 0;
  do {
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    got = recvmsg(fd_.get(), &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    // An arbiter that was killed before it had read all: what it had sent is still there.
  } while (got < 0 && (errno == EINTR || (errno == ECONNRESET && tries++ == 0)));
  if (got < 0) return errno == EAGAIN ? Got::kNothing : Got::kGone;
  if (got == 0) return Got::kGone;
  packet = {};
  const cmsghdr* const header = CMSG_FIRSTHDR(&message);
  if (header != nullptr && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS) {
    for (size_t i = 0; i < (header->cmsg_len - CMSG_LEN(0)) / sizeof(int); ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof(int));
      packet.chunks.push_back({0, 0, 0, io::OwnedFd(fd)});
    }
  }
  if (!packet.reply.ParseFromArray(buffer.data(), static_cast<int>(got))) return Got::kNothing;
  const pb::Granted& granted = packet.reply.granted();
  // Fewer descriptors than chunks: this process may open no more.
  if ((message.msg_flags & MSG_CTRUNC) != 0) packet.chunks.clear();
  for (int i = 0; i < granted.chunks_size() && static_cast<size_t>(i) < packet.chunks.size(); ++i) {
    HeldChunk& chunk = packet.chunks[static_cast<size_t>(i)];
    chunk.number = granted.chunks(i).number();
    chunk.bytes = granted.chunks(i).bytes();
    chunk.gpu = granted.chunks(i).gpu();
  }
  return Got::kPacket;
}

}  // namespace mesh::sdk
