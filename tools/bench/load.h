// The load that the benchmark puts on a path: a fixed number of requests outstanding, each reply checked.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>
#include <zmq.hpp>

namespace mesh::bench {

using Clock = std::chrono::steady_clock;

enum class ClientSocket : uint8_t {
  kReq,         // as nearly all agents' clients
  kDealer,      // sends [empty, body], so that REP agents would accept it
  kBareDealer,  // sends [body] only
};

struct LoadOptions {
  std::string endpoint;
  ClientSocket socket = ClientSocket::kReq;
  uint32_t sockets = 1;
  uint32_t outstanding = 1;  // per socket; a REQ socket can have only one
  size_t body_bytes = 1024;  // at least twice the stamp, 32; kJsonBytesMin with keys
  // Not 0: bodies are JSON and ask for so many different things in turn, each with a request_id of its own.
  uint64_t keys = 0;
};

struct LoadResult {
  double seconds = 0;                  // from the first request to the last reply
  std::vector<uint32_t> latencies_ns;  // one per request, in the order of the replies
};

// What a body begins and ends with; a reply that does not carry the stamp of a request in flight is wrong.
struct Stamp {
  uint64_t sequence = 0;
  uint32_t slot = 0;
  uint32_t body_bytes = 0;

  bool operator==(const Stamp&) const = default;
};
static_assert(sizeof(Stamp) == 16);

// {"action": "get", "key": "16 digits", "request_id": "16 digits of the sequence, 4 of the slot", "text": "xxx…"}: at
// fixed places, for the client's own time is part of what is measured. The reply must be the same, byte by byte.
inline constexpr size_t kJsonBytesMin = 128;

// One process, one thread of our own beside libzmq's I/O thread, however many sockets. What the client costs hides what
// the middle costs, so it is the cheapest of three: with nothing in between, 16 sockets made 68 000 requests/s under
// epoll, 56 000 under zmq_poll, and 48 000 with a thread each.
class Load {
 public:
  // Connects. Throws zmq::error_t, std::system_error.
  explicit Load(const LoadOptions& options);
  Load(const Load&) = delete;
  Load& operator=(const Load&) = delete;
  ~Load();

  // Keeps all slots busy until `duration` has passed or `requests_max` requests were sent, then waits for the replies
  // still out. Throws std::runtime_error on a wrong reply or when none comes for five seconds; the load is of no use
  // after that.
  LoadResult run(Clock::duration duration, uint64_t requests_max);

 private:
  // One request that may be outstanding. Its body is sent from here without a copy, so it is only touched again after
  // the reply, which cannot come before the request has left.
  struct Slot {
    uint32_t socket = 0;
    Stamp stamp;
    Clock::time_point sent_at;
    std::vector<char> body;
  };

  void send(Slot& slot);
  // Takes one reply off a socket that has one, or waits for it. Returns its slot.
  Slot& receive(zmq::socket_t& socket);
  // Returns the sockets that have a reply, which must be taken; valid until the next call. One socket alone is always
  // said to have one, since receive() waits as well and that saves asking.
  const std::vector<uint32_t>& wait_for_replies();
  void collect_ready(uint32_t socket);
  Slot& checked_slot(const zmq::message_t& reply);
  Slot& checked_json_slot(const zmq::message_t& reply);

  LoadOptions options_;
  // In this order: sockets close before the context can end, and its I/O thread must have ended before the bodies go.
  std::vector<Slot> slots_;
  zmq::context_t context_;
  std::vector<zmq::socket_t> sockets_;
  int epoll_ = -1;
  // libzmq's descriptor tells of an arrival once, and a send may be what hears it: these were sent on and are asked
  // again.
  std::vector<uint32_t> sent_on_;
  std::vector<uint32_t> ready_;
  uint64_t next_sequence_ = 1;
};

}  // namespace mesh::bench
