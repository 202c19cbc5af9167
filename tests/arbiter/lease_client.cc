#include "tests/arbiter/lease_client.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <chrono>
#include <cstring>

namespace mesh::arbiter {
namespace {

using Clock = std::chrono::steady_clock;

int64_t left_ms(Clock::time_point until) {
  return std::max<int64_t>(0, std::chrono::duration_cast<std::chrono::milliseconds>(until - Clock::now()).count());
}

io::OwnedFd connect_to(const std::string& path) {
  io::OwnedFd fd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, path.c_str(), sizeof(address.sun_path) - 1);
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) return {};
  return fd;
}

}  // namespace

bool LeaseClient::connect(int64_t within_ms) {
  const auto until = Clock::now() + std::chrono::milliseconds(within_ms);
  while (left_ms(until) > 0) {
    socket_ = connect_to(path_);
    if (socket_) {
      pb::Request request;
      request.mutable_hello()->set_version(1);
      request.mutable_hello()->set_client("test");
      request.mutable_hello()->set_epoch(welcome_.epoch());
      const auto answer = order(request, std::max<int64_t>(left_ms(until), 1));
      if (answer && answer->reply.has_welcome()) {
        welcome_ = answer->reply.welcome();
        return true;
      }
    }
    usleep(2000);
  }
  return false;
}

bool LeaseClient::connect_silently() {
  socket_ = connect_to(path_);
  return is_connected();
}

uint64_t LeaseClient::send(pb::Request request) {
  request.set_number(next_number_++);
  if (send_raw(request.SerializeAsString())) return request.number();
  hang_up();
  return 0;
}

bool LeaseClient::send_raw(const std::string& bytes, const std::vector<int>& descriptors) {
  iovec part{const_cast<char*>(bytes.data()), bytes.size()};
  std::vector<char> control(CMSG_SPACE(descriptors.size() * sizeof(int)));
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (!descriptors.empty()) {
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(descriptors.size() * sizeof(int));
    std::memcpy(CMSG_DATA(header), descriptors.data(), descriptors.size() * sizeof(int));
  }
  return socket_ && sendmsg(socket_.get(), &message, MSG_NOSIGNAL) >= 0;
}

std::optional<Answer> LeaseClient::receive(int64_t within_ms) {
  if (!socket_) return std::nullopt;
  pollfd ready{.fd = socket_.get(), .events = POLLIN, .revents = 0};
  if (poll(&ready, 1, static_cast<int>(within_ms)) <= 0) return std::nullopt;
  static std::array<char, 64 * 1024> buffer;
  alignas(cmsghdr) std::array<char, CMSG_SPACE(253 * sizeof(int))> control;
  iovec part{buffer.data(), buffer.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  ssize_t got = recvmsg(socket_.get(), &message, MSG_CMSG_CLOEXEC);
  // It was killed before it had read all; what it had sent is still there.
  if (got < 0 && errno == ECONNRESET) got = recvmsg(socket_.get(), &message, MSG_CMSG_CLOEXEC);
  if (got <= 0) {
    hang_up();
    return std::nullopt;
  }
  Answer answer;
  const cmsghdr* const header = CMSG_FIRSTHDR(&message);
  if (header != nullptr && header->cmsg_type == SCM_RIGHTS) {
    const size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof(int));
      answer.chunks.push_back({0, 0, io::OwnedFd(fd)});
    }
  }
  if (!answer.reply.ParseFromArray(buffer.data(), static_cast<int>(got))) return std::nullopt;
  const pb::Granted& granted = answer.reply.granted();
  for (int i = 0; i < granted.chunks_size() && static_cast<size_t>(i) < answer.chunks.size(); ++i) {
    answer.chunks[static_cast<size_t>(i)].number = granted.chunks(i).number();
    answer.chunks[static_cast<size_t>(i)].bytes = granted.chunks(i).bytes();
  }
  return answer;
}

std::optional<Answer> LeaseClient::answer_to(uint64_t number, int64_t within_ms) {
  const auto until = Clock::now() + std::chrono::milliseconds(within_ms);
  std::optional<Answer> whole;
  while (number != 0 && is_connected()) {
    auto part = receive(left_ms(until));
    if (!part) {
      if (left_ms(until) == 0) return std::nullopt;
      continue;
    }
    if (part->reply.number() != number || part->reply.has_queued()) {
      if (on_other) on_other(part->reply);
      continue;
    }
    const bool is_last = !part->reply.granted().more();
    if (whole) {
      whole->reply.mutable_granted()->mutable_chunks()->MergeFrom(part->reply.granted().chunks());
      for (HeldChunk& chunk : part->chunks) whole->chunks.push_back(std::move(chunk));
    } else {
      whole = std::move(part);
    }
    if (is_last) return whole;
  }
  return std::nullopt;
}

std::optional<HeldLease> LeaseClient::ask(const pb::Ask& ask, int64_t within_ms) {
  pb::Request request;
  *request.mutable_ask() = ask;
  auto answer = order(request, within_ms);
  if (!answer || !answer->reply.has_granted()) return std::nullopt;
  return HeldLease{answer->reply.granted(), std::move(answer->chunks)};
}

bool LeaseClient::commit(const HeldLease& lease, uint64_t bytes) {
  pb::Request request;
  *request.mutable_commit()->mutable_lease() = lease.grant.lease();
  request.mutable_commit()->set_bytes(bytes);
  const auto answer = order(request);
  return answer && answer->reply.has_done();
}

bool LeaseClient::seal(const HeldLease& lease) {
  pb::Request request;
  *request.mutable_seal() = lease.grant.lease();
  const auto answer = order(request);
  return answer && answer->reply.has_done();
}

bool LeaseClient::release(HeldLease& lease) {
  lease.chunks.clear();
  pb::Request request;
  *request.mutable_release() = lease.grant.lease();
  const auto answer = order(request);
  return answer && answer->reply.has_done();
}

bool LeaseClient::claim(HeldLease& lease) {
  pb::Request request;
  pb::Claim& claim = *request.mutable_claim();
  *claim.mutable_lease() = lease.grant.lease();
  claim.set_bytes(lease.bytes());
  for (const pb::Chunk& chunk : lease.grant.chunks()) claim.add_chunks(chunk.number());
  const auto answer = order(request);
  if (!answer || !answer->reply.has_granted()) return false;
  *lease.grant.mutable_lease() = answer->reply.granted().lease();
  return true;
}

pb::Ask ask_for(pb::Kind kind, uint64_t bytes) {
  pb::Ask ask;
  ask.set_kind(kind);
  ask.set_min_bytes(bytes);
  ask.set_want_bytes(bytes);
  return ask;
}

}  // namespace mesh::arbiter
