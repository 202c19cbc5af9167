// Who is at the other end of a socket, for sure, and when he is gone.
//
// A pid says who a process is only as long as it lives: with the time of its start it is a name for good, with a pidfd
// it can be watched and signalled without meeting another one that was given the same number.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "sidecar/io/gpu/owned_fd.h"

namespace mesh::io {

class Loop;

// A process of this run of the computer, never 0; the same whoever asks and whenever.
uint64_t process_name(pid_t pid, uint64_t started_ticks);
pid_t pid_of(uint64_t process_name);

struct Peer {
  uint64_t name = 0;
  pid_t pid = 0;
  uid_t uid = 0;
  OwnedFd pidfd{};
};

// Who connected this AF_UNIX socket. Nothing if he is gone already, or hidden in another pid namespace.
std::optional<Peer> identify_peer(int socket);
// The process that `asker` means by a pid. Nothing if there is none, if it runs as more than one user, or if `asker`
// is gone or in a pid namespace below this one, where pids mean others.
std::optional<Peer> find_process(pid_t pid, uint64_t asker);
// The process at the other end of a connected IPv4 socket of this host; 0 if there is none that this one may look at.
// Reads through /proc.
pid_t loopback_peer(int socket);
// A descriptor of that process; none if it is gone.
OwnedFd open_process(uint64_t process_name);
// False if it could not be signalled.
bool signal_process(int pidfd, int signum);

// Watches for a process's end: when it is told, what the process held is free.
class ProcessWatch {
 public:
  ProcessWatch(Loop& loop, OwnedFd pidfd, std::function<void()> on_end);
  ~ProcessWatch();
  ProcessWatch(const ProcessWatch&) = delete;
  ProcessWatch& operator=(const ProcessWatch&) = delete;

  bool signal(int signum);

 private:
  struct Poll;
  Poll* poll_;
};

}  // namespace mesh::io
