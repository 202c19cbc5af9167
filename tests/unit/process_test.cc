// Processes by their pids, as another process names them.

#include "sidecar/io/process.h"

#include <doctest/doctest.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <optional>

namespace mesh::io {
namespace {

constexpr uid_t kNobody = 65534;

uint64_t own_name() {
  int sockets[2];
  REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) == 0);
  const OwnedFd one(sockets[0]);
  const OwnedFd other(sockets[1]);
  const auto peer = identify_peer(one.get());
  REQUIRE(peer);
  return peer->name;
}

// A child that did something, and lives until the end of this.
class Child {
 public:
  explicit Child(const std::function<bool()>& prepare) {
    int ready[2];
    REQUIRE(pipe(ready) == 0);
    pid_ = fork();
    if (pid_ == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      const char is_ready = prepare() ? 1 : 0;
      if (write(ready[1], &is_ready, 1) == 1) pause();
      _exit(0);
    }
    char is_ready = 0;
    is_prepared_ = read(ready[0], &is_ready, 1) == 1 && is_ready == 1;
    close(ready[0]);
    close(ready[1]);
  }
  ~Child() { end(); }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  void end() {
    if (pid_ <= 0) return;
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
    pid_ = 0;
  }
  pid_t pid() const { return pid_; }
  bool is_prepared() const { return is_prepared_; }

 private:
  pid_t pid_ = 0;
  bool is_prepared_ = false;
};

TEST_CASE("a process is found by its pid with its user and a name for good, and is not when it has ended") {
  Child child([] { return true; });
  const pid_t pid = child.pid();
  const auto found = find_process(pid, own_name());
  REQUIRE(found);
  CHECK(found->uid == getuid());
  CHECK(pid_of(found->name) == pid);
  CHECK(open_process(found->name));
  kill(pid, SIGKILL);
  siginfo_t gone{};
  REQUIRE(waitid(P_PID, static_cast<id_t>(pid), &gone, WEXITED | WNOWAIT) == 0);
  CHECK_FALSE(find_process(pid, own_name()));  // a zombie holds its pid
  child.end();
  CHECK_FALSE(find_process(pid, own_name()));
  CHECK_FALSE(find_process(0, own_name()));
  CHECK_FALSE(find_process(INT32_MAX, own_name()));
}

TEST_CASE("whose a process is says the user that it runs as, and nobody's is one that runs as two") {
  if (getuid() != 0) return;
  const Child other([] { return setuid(kNobody) == 0; });
  const Child two([] { return seteuid(kNobody) == 0; });
  REQUIRE(other.is_prepared());
  REQUIRE(two.is_prepared());
  const auto found = find_process(other.pid(), own_name());
  REQUIRE(found);
  CHECK(found->uid == kNobody);
  CHECK_FALSE(find_process(two.pid(), own_name()));
}

TEST_CASE("who asks out of another pid namespace means other processes, and one that is gone means none") {
  const uint64_t own = own_name();
  CHECK(find_process(getpid(), own)->name == own);
  CHECK_FALSE(find_process(getpid(), own + (uint64_t{1} << 22)));  // one that had this pid before
  int made[2];
  REQUIRE(pipe(made) == 0);
  const Child parent([&] {
    if (unshare(CLONE_NEWPID) != 0) return false;
    const pid_t inner = fork();
    if (inner == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      pause();
    }
    return write(made[1], &inner, sizeof(inner)) == static_cast<ssize_t>(sizeof(inner));
  });
  close(made[1]);
  // It may not have come so far yet that it dies with its parent.
  struct Inner {
    ~Inner() {
      if (pid > 0) kill(pid, SIGKILL);
    }
    pid_t pid = 0;
  } inner;
  if (parent.is_prepared())
    REQUIRE(read(made[0], &inner.pid, sizeof(inner.pid)) == static_cast<ssize_t>(sizeof(inner.pid)));
  close(made[0]);
  if (!parent.is_prepared()) return;  // that takes rights
  const auto found = find_process(inner.pid, own);
  REQUIRE(found);
  CHECK_FALSE(find_process(getpid(), found->name));
}

// A socket that is connected to one that only a child has.
OwnedFd connected_to_child(std::optional<Child>& child) {
  const OwnedFd listener(socket(AF_INET, SOCK_STREAM, 0));
  sockaddr_in where{};
  where.sin_family = AF_INET;
  where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(where);
  REQUIRE(bind(listener.get(), reinterpret_cast<const sockaddr*>(&where), size) == 0);
  REQUIRE(listen(listener.get(), 1) == 0);
  REQUIRE(getsockname(listener.get(), reinterpret_cast<sockaddr*>(&where), &size) == 0);
  OwnedFd ours(socket(AF_INET, SOCK_STREAM, 0));
  REQUIRE(connect(ours.get(), reinterpret_cast<const sockaddr*>(&where), size) == 0);
  child.emplace([&listener] { return accept(listener.get(), nullptr, nullptr) >= 0; });
  REQUIRE(child->is_prepared());
  return ours;
}

TEST_CASE("who has the other end of a connection within this computer is found, and nobody when it is gone") {
  std::optional<Child> child;
  const OwnedFd ours = connected_to_child(child);
  CHECK(loopback_peer(ours.get()) == child->pid());
  child->end();
  CHECK(loopback_peer(ours.get()) == 0);
  int sockets[2];
  REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) == 0);
  const OwnedFd one(sockets[0]);
  const OwnedFd other(sockets[1]);
  CHECK(loopback_peer(one.get()) == 0);
  CHECK(loopback_peer(-1) == 0);
}

}  // namespace
}  // namespace mesh::io
