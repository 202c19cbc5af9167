// A process that does with device memory what it is told, one line at a time, so that it can be killed.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

#include "tests/gpu/channel.h"

namespace mesh::facts {

// Which memory is used: "cuda", or "memfd" with the file by which processes share the card.
struct Backend {
  std::string name;
  std::string book_path;
  bool is_cuda() const { return name == "cuda"; }
};

struct Reply {
  bool is_ok = false;
  std::string text;  // "key=value key=value", or what went wrong
  io::OwnedFd fd;
  // 0 if there is no such key.
  double number(const std::string& key) const;
};

class Puppet {
 public:
  explicit Puppet(const Backend& backend);
  // Kills it.
  ~Puppet();
  Puppet(Puppet&& other) noexcept;

  pid_t pid() const { return pid_; }
  int socket() const { return socket_.get(); }
  int pidfd() const { return pidfd_.get(); }

  // A descriptor stays the caller's.
  Reply ask(const std::string& line, int fd = -1);
  void tell(const std::string& line, int fd = -1);
  Reply hear();

  void kill_now();  // SIGKILL; does not wait
  void reap();
  void kill() {
    kill_now();
    reap();
  }

 private:
  pid_t pid_ = -1;
  io::OwnedFd socket_;
  io::OwnedFd pidfd_;
  std::string last_line_;
};

// The puppet's side. Returns when the other end is gone.
int run_puppet(const Backend& backend);

}  // namespace mesh::facts
