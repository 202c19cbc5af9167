// A socket to the arbiter: packets out, packets with descriptors in.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "lease.pb.h"
#include "sidecar/io/gpu/owned_fd.h"

namespace mesh::sdk {

namespace pb = mesh::lease::v1;
using Clock = std::chrono::steady_clock;

struct HeldChunk {
  uint64_t number = 0;
  uint64_t bytes = 0;
  uint32_t gpu = 0;
  io::OwnedFd fd{};
};

// A reply with what came beside it.
struct Packet {
  pb::Reply reply;
  std::vector<HeldChunk> chunks;
};

// Milliseconds, rounded up, that poll() takes; never below 0.
int left_ms(Clock::time_point until);

class PacketLine {
 public:
  // Not open if nobody listens there; errno says why.
  static PacketLine open(const std::string& path);

  bool is_open() const { return static_cast<bool>(fd_); }
  int fd() const { return fd_.get(); }
  // False if the arbiter is gone, or does not read for a second.
  bool send(const pb::Request& request) const;
  enum class Got : uint8_t { kPacket, kNothing, kGone };
  // Does not wait.
  Got receive(Packet& packet) const;
  void hang_up() { fd_.reset(); }

 private:
  io::OwnedFd fd_;
};

}  // namespace mesh::sdk
