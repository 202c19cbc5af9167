#include "tools/bench/load.h"

#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string_view>
#include <system_error>

namespace mesh::bench {
namespace {

constexpr std::chrono::milliseconds kReplyTimeout{5000};
constexpr size_t kExcerptBytes = 300;  // of a wrong reply: enough for the mesh's own error replies

void write_stamp(std::vector<char>& body, const Stamp& stamp) {
  std::memcpy(body.data(), &stamp, sizeof stamp);
  std::memcpy(body.data() + body.size() - sizeof stamp, &stamp, sizeof stamp);
}

constexpr std::string_view kJsonStart =
    R"({"action": "get", "key": "0000000000000000", "request_id": "00000000000000000000", "text": ")";
constexpr size_t kKeyAt = kJsonStart.find("0000");
constexpr size_t kSequenceAt = kJsonStart.find("0000", kKeyAt + 16);
constexpr size_t kSlotAt = kSequenceAt + 16;
static_assert(kJsonStart.size() + 3 < kJsonBytesMin);

void write_digits(char* to, size_t count, uint64_t number) {
  for (size_t i = count; i-- > 0; number /= 10) to[i] = static_cast<char>('0' + number % 10);
}

std::vector<char> json_body(size_t bytes, uint32_t slot) {
  std::vector<char> body(kJsonStart.begin(), kJsonStart.end());
  body.resize(bytes, 'x');
  body[bytes - 2] = '"';
  body[bytes - 1] = '}';
  write_digits(&body[kSlotAt], 4, slot);
  return body;
}

std::runtime_error no_reply() { return std::runtime_error("no reply for five seconds"); }

std::runtime_error wrong_reply(const char* why, const zmq::message_t& reply) {
  std::string excerpt(static_cast<const char*>(reply.data()), std::min(reply.size(), kExcerptBytes));
  std::replace_if(
      excerpt.begin(), excerpt.end(), [](char c) { return c < ' ' || c > '~'; }, '.');
  return std::runtime_error(std::string("wrong reply: ") + why + "; " + std::to_string(reply.size()) +
                            " bytes that begin with: " + excerpt);
}

uint32_t saturated_ns(Clock::duration latency) {
  const auto ns = std::chrono::duration_cast<std::chrono::nanoseconds>(latency).count();
  return static_cast<uint32_t>(std::min<int64_t>(ns, std::numeric_limits<uint32_t>::max()));
}

}  // namespace

Load::Load(const LoadOptions& options) : options_(options), epoll_(epoll_create1(EPOLL_CLOEXEC)) {
  if (epoll_ < 0) throw std::system_error(errno, std::generic_category(), "epoll_create1");
  const bool is_req = options.socket == ClientSocket::kReq;
  for (uint32_t s = 0; s < options.sockets; ++s) {
    zmq::socket_t socket(context_, is_req ? zmq::socket_type::req : zmq::socket_type::dealer);
    socket.set(zmq::sockopt::linger, 0);
    socket.set(zmq::sockopt::rcvtimeo, static_cast<int>(kReplyTimeout.count()));
    socket.set(zmq::sockopt::sndtimeo, static_cast<int>(kReplyTimeout.count()));
    socket.connect(options.endpoint);
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u32 = s;
    if (epoll_ctl(epoll_, EPOLL_CTL_ADD, socket.get(zmq::sockopt::fd), &event) != 0) {
      throw std::system_error(errno, std::generic_category(), "epoll_ctl");
    }
    sockets_.push_back(std::move(socket));
    for (uint32_t n = 0; n < options.outstanding; ++n) {
      Slot slot;
      slot.socket = s;
      slot.stamp.slot = static_cast<uint32_t>(slots_.size());
      slot.stamp.body_bytes = static_cast<uint32_t>(options.body_bytes);
      slot.body = options.keys > 0 ? json_body(options.body_bytes, slot.stamp.slot)
                                   : std::vector<char>(options.body_bytes, 'x');
      slots_.push_back(std::move(slot));
    }
  }
}

Load::~Load() { close(epoll_); }

LoadResult Load::run(Clock::duration duration, uint64_t requests_max) {
  LoadResult result;
  result.latencies_ns.reserve(size_t{1} << 20);  // page faults belong before the clock starts
  const auto start = Clock::now();
  const auto end = start + duration;
  uint64_t sent = 0;
  size_t in_flight = 0;
  for (auto& slot : slots_) {
    if (sent == requests_max) break;
    send(slot);
    ++sent;
    ++in_flight;
  }
  auto now = start;
  while (in_flight > 0) {
    for (const uint32_t ready : wait_for_replies()) {
      Slot& slot = receive(sockets_[ready]);
      now = Clock::now();
      result.latencies_ns.push_back(saturated_ns(now - slot.sent_at));
      if (now < end && sent < requests_max) {
        send(slot);
        ++sent;
      } else {
        --in_flight;
      }
    }
  }
  result.seconds = std::chrono::duration<double>(now - start).count();
  return result;
}

void Load::send(Slot& slot) {
  slot.stamp.sequence = next_sequence_++;
  if (options_.keys > 0) {
    write_digits(&slot.body[kKeyAt], 16, slot.stamp.sequence % options_.keys);
    write_digits(&slot.body[kSequenceAt], 16, slot.stamp.sequence);
  } else {
    write_stamp(slot.body, slot.stamp);
  }
  slot.sent_at = Clock::now();
  zmq::socket_t& socket = sockets_[slot.socket];
  if (options_.socket == ClientSocket::kDealer) socket.send(zmq::message_t(), zmq::send_flags::sndmore);
  if (!socket.send(zmq::message_t(slot.body.data(), slot.body.size(), nullptr), zmq::send_flags::none)) {
    throw std::runtime_error("a request could not be sent for five seconds");
  }
  if (sockets_.size() > 1 && (sent_on_.empty() || sent_on_.back() != slot.socket)) sent_on_.push_back(slot.socket);
}

const std::vector<uint32_t>& Load::wait_for_replies() {
  ready_.clear();
  if (sockets_.size() == 1) {
    ready_.push_back(0);
    return ready_;
  }
  for (const uint32_t socket : sent_on_) collect_ready(socket);
  sent_on_.clear();
  while (ready_.empty()) {
    std::array<epoll_event, 64> events;
    const int count =
        epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), static_cast<int>(kReplyTimeout.count()));
    if (count == 0) throw no_reply();
    for (int i = 0; i < count; ++i) collect_ready(events[static_cast<size_t>(i)].data.u32);
  }
  return ready_;
}

void Load::collect_ready(uint32_t socket) {
  if ((sockets_[socket].get(zmq::sockopt::events) & ZMQ_POLLIN) != 0) ready_.push_back(socket);
}

Load::Slot& Load::receive(zmq::socket_t& socket) {
  zmq::message_t frame;
  if (!socket.recv(frame, zmq::recv_flags::none)) throw no_reply();
  if (options_.socket == ClientSocket::kDealer) {
    if (frame.size() != 0 || !frame.more()) throw wrong_reply("the delimiter is missing", frame);
    (void)socket.recv(frame, zmq::recv_flags::none);  // the frames of a message arrive together
  }
  if (frame.more()) throw wrong_reply("more than one frame", frame);
  return checked_slot(frame);
}

Load::Slot& Load::checked_slot(const zmq::message_t& reply) {
  if (reply.size() != options_.body_bytes) throw wrong_reply("another length than the request", reply);
  if (options_.keys > 0) return checked_json_slot(reply);
  Stamp front, back;
  std::memcpy(&front, reply.data(), sizeof front);
  std::memcpy(&back, static_cast<const char*>(reply.data()) + reply.size() - sizeof back, sizeof back);
  if (front != back || front.slot >= slots_.size() || front != slots_[front.slot].stamp) {
    throw wrong_reply("not the body of a request in flight", reply);
  }
  return slots_[front.slot];
}

Load::Slot& Load::checked_json_slot(const zmq::message_t& reply) {
  const char* body = static_cast<const char*>(reply.data());
  size_t slot = 0;
  std::from_chars(body + kSlotAt, body + kSlotAt + 4, slot);
  if (slot >= slots_.size() || std::memcmp(body, slots_[slot].body.data(), reply.size()) != 0) {
    throw wrong_reply("not the body of a request in flight", reply);
  }
  return slots_[slot];
}

}  // namespace mesh::bench
