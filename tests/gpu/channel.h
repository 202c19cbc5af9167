// A line of text and at most one descriptor, between two processes, over AF_UNIX SOCK_SEQPACKET.
#pragma once

#include <optional>
#include <string>

#include "sidecar/io/gpu/owned_fd.h"

namespace mesh::facts {

struct Packet {
  std::string text;
  io::OwnedFd fd;
};

// Where a puppet finds its end.
inline constexpr int kPuppetSocket = 3;

bool send_packet(int socket, const std::string& text, int fd = -1);
// Nothing when the other end is gone or the time is up; negative waits without end.
std::optional<Packet> receive_packet(int socket, int timeout_ms);

}  // namespace mesh::facts
