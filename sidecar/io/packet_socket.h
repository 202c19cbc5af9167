// AF_UNIX sockets of type SOCK_SEQPACKET on the loop: packets with descriptors beside them.
//
// Descriptors are only ever sent. Those that come in are never taken: the kernel closes them, and says that there were
// some.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"
#include "common/base/slice.h"
#include "sidecar/io/gpu/owned_fd.h"

namespace mesh::io {

class Loop;

// Told what happens on one socket. It must outlive the socket, and may destroy it in any of these calls.
class PacketObserver {
 public:
  virtual ~PacketObserver() = default;
  // Valid during the call. `is_cut`: it was longer than the socket reads.
  virtual void on_packet(ByteView bytes, bool is_cut, bool had_descriptors) = 0;
  // The last call. An empty packet ends a connection, too.
  virtual void on_closed(std::string_view reason) = 0;
};

class PacketSocket {
 public:
  // Of what the other end does not read.
  static constexpr size_t kQueuedPacketsMax = 256;
  static constexpr size_t kQueuedDescriptorsMax = 1024;
  // One connection may have so many of a turn.
  static constexpr int kPacketsPerTurn = 16;

  // Reads packets of `packet_bytes_max` at most.
  PacketSocket(Loop& loop, OwnedFd fd, size_t packet_bytes_max);
  ~PacketSocket();
  PacketSocket(const PacketSocket&) = delete;
  PacketSocket& operator=(const PacketSocket&) = delete;

  void begin(PacketObserver& observer);
  // The descriptors stay the caller's, and may be closed afterwards. False if too much waits for the other end to read,
  // or the connection is broken: then it is of no more use.
  bool send(std::string_view bytes, std::span<const int> descriptors);

 private:
  struct Poll;
  struct Waiting {
    std::string bytes;
    std::vector<OwnedFd> descriptors;
  };
  void on_ready(int events);
  void read();
  void write();
  void watch();
  void end(std::string_view reason);

  Poll* poll_;  // lives until libuv lets it go
  PacketObserver* observer_ = nullptr;
  std::vector<uint8_t> buffer_;
  std::deque<Waiting> queue_;
  size_t queued_descriptors_ = 0;
  bool is_broken_ = false;
  bool was_reset_ = false;
};

class PacketAcceptObserver {
 public:
  virtual ~PacketAcceptObserver() = default;
  // Not reading yet.
  virtual void on_accepted(OwnedFd socket) = 0;
};

class PacketListener {
 public:
  // Listens at once, as a file with these permissions. An Error says what to do. The observer outlives the listener.
  static Result<std::unique_ptr<PacketListener>> open(Loop& loop, const std::string& path, uint32_t mode,
                                                      PacketAcceptObserver& observer);
  ~PacketListener();
  PacketListener(const PacketListener&) = delete;
  PacketListener& operator=(const PacketListener&) = delete;

 private:
  struct Poll;
  PacketListener(Poll* poll, std::string path) : poll_(poll), path_(std::move(path)) {}

  Poll* poll_;
  std::string path_;
};

}  // namespace mesh::io
