#include "tests/gpu/puppet.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <utility>

extern char** environ;

namespace mesh::facts {
namespace {

constexpr int kReplyMsMax = 15'000;

int open_pidfd(pid_t pid) { return static_cast<int>(syscall(SYS_pidfd_open, pid, 0)); }

}  // namespace

double Reply::number(const std::string& key) const {
  const size_t at = (" " + text).find(" " + key + "=");
  return at == std::string::npos ? 0 : std::strtod(text.c_str() + at + key.size() + 1, nullptr);
}

Puppet::Puppet(const Backend& backend) {
  int ends[2] = {-1, -1};
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) return;
  socket_.reset(ends[0]);
  // dup2() onto itself would leave it to be closed.
  io::OwnedFd theirs(fcntl(ends[1], F_DUPFD_CLOEXEC, kPuppetSocket + 1));
  close(ends[1]);
  std::string arguments[] = {"gpu_facts", "--puppet", "--backend", backend.name, "--book", backend.book_path};
  char* argv[std::size(arguments) + 1] = {};
  for (size_t i = 0; i < std::size(arguments); ++i) argv[i] = arguments[i].data();
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  // What it prints is no fact.
  posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, theirs.get(), kPuppetSocket);
  if (posix_spawn(&pid_, "/proc/self/exe", &actions, nullptr, argv, environ) != 0) pid_ = -1;
  posix_spawn_file_actions_destroy(&actions);
  if (pid_ > 0) pidfd_.reset(open_pidfd(pid_));
}

Puppet::Puppet(Puppet&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)),
      socket_(std::move(other.socket_)),
      pidfd_(std::move(other.pidfd_)),
      last_line_(std::move(other.last_line_)) {}

Puppet::~Puppet() { kill(); }

void Puppet::kill_now() {
  if (pid_ > 0) ::kill(pid_, SIGKILL);
}

void Puppet::reap() {
  if (pid_ > 0) waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

void Puppet::tell(const std::string& line, int fd) {
  last_line_ = line;
  send_packet(socket_.get(), line, fd);
}

Reply Puppet::hear() {
  Reply reply;
  auto packet = receive_packet(socket_.get(), kReplyMsMax);
  if (!packet) {
    reply.text = last_line_ + ": no reply";
    return reply;
  }
  reply.is_ok = packet->text.starts_with("ok");
  reply.text = reply.is_ok ? packet->text.substr(2) : last_line_ + ": " + packet->text;
  reply.fd = std::move(packet->fd);
  return reply;
}

Reply Puppet::ask(const std::string& line, int fd) {
  tell(line, fd);
  return hear();
}

}  // namespace mesh::facts
