#include "sidecar/io/process.h"

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <uv.h>

#include <algorithm>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "common/base/check.h"
#include "sidecar/io/loop.h"

namespace mesh::io {
namespace {

constexpr int kSoPeerPidfd = 77;   // Linux 6.5; not yet in the C library's headers
constexpr uint64_t kPidBits = 22;  // PID_MAX_LIMIT

// Field 22 of /proc/PID/stat: clock ticks from the computer's start to the process's. The second field is its name in
// parentheses, which may contain anything.
std::optional<uint64_t> started_ticks(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  size_t at = text.rfind(')');
  if (at == std::string::npos) return std::nullopt;
  constexpr int kFieldsAfterName = 20;
  for (int i = 0; i < kFieldsAfterName; ++i) {
    at = text.find(' ', at + 1);
    if (at == std::string::npos) return std::nullopt;
  }
  uint64_t ticks = 0;
  const auto parsed = std::from_chars(text.data() + at + 1, text.data() + text.size(), ticks);
  return parsed.ec == std::errc() ? std::optional(ticks) : std::nullopt;
}

// What /proc/PID/status says behind a key as "Uid:"; nothing if it is not there.
std::optional<std::vector<uint64_t>> status_numbers(pid_t pid, const std::string& key) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/status");
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with(key)) continue;
    std::istringstream numbers(line.substr(key.size()));
    return std::vector<uint64_t>{std::istream_iterator<uint64_t>(numbers), {}};
  }
  return std::nullopt;
}

OwnedFd pidfd_of(pid_t pid) { return OwnedFd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0))); }

// As /proc/net/tcp writes one: address and port as numbers of this machine, in hexadecimal digits.
std::string end_text(const sockaddr_in& end) {
  char text[16];
  std::snprintf(text, sizeof(text), "%08X:%04X", end.sin_addr.s_addr, ntohs(end.sin_port));
  return text;
}

// The inode of the socket between these two ends, seen from the first; empty if it is not one of this host.
std::string inode_of(const std::string& from, const std::string& to) {
  std::ifstream table("/proc/net/tcp");
  for (std::string line; std::getline(table, line);) {
    std::istringstream fields(line);
    std::string slot, local, remote, skipped, inode;
    fields >> slot >> local >> remote;
    if (local != from || remote != to) continue;
    constexpr int kFieldsBefore = 6;  // state, queues, timer, retransmits, user, timeout
    for (int i = 0; i < kFieldsBefore; ++i) fields >> skipped;
    fields >> inode;
    return inode == "0" ? "" : inode;
  }
  return "";
}

bool has_open(const std::filesystem::path& process, const std::filesystem::path& what) {
  std::error_code failed;
  for (std::filesystem::directory_iterator at(process / "fd", failed), end; !failed && at != end;
       at.increment(failed)) {
    std::error_code gone;
    if (std::filesystem::read_symlink(at->path(), gone) == what) return true;
  }
  return false;
}

bool has_ended(int pidfd) {
  pollfd ready{.fd = pidfd, .events = POLLIN, .revents = 0};
  return ::poll(&ready, 1, 0) != 0;
}

}  // namespace

uint64_t process_name(pid_t pid, uint64_t ticks) { return ticks << kPidBits | static_cast<uint64_t>(pid); }

pid_t pid_of(uint64_t name) { return static_cast<pid_t>(name & ((uint64_t{1} << kPidBits) - 1)); }

std::optional<Peer> identify_peer(int socket) {
  ucred credentials{};
  socklen_t size = sizeof(credentials);
  if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0 || credentials.pid <= 0)
    return std::nullopt;
  int given = -1;
  size = sizeof(given);
  const bool is_given = getsockopt(socket, SOL_SOCKET, kSoPeerPidfd, &given, &size) == 0;
  OwnedFd pidfd = is_given ? OwnedFd(given) : pidfd_of(credentials.pid);
  const auto ticks = started_ticks(credentials.pid);
  // As long as the process has not ended nobody else has its number, so what was read in between was its own. Without
  // SO_PEERPIDFD somebody else may have had it before: then the socket was closed by its first holder.
  if (!pidfd || !ticks || has_ended(pidfd.get())) return std::nullopt;
  pollfd hung_up{.fd = socket, .events = 0, .revents = 0};
  if (!is_given && ::poll(&hung_up, 1, 0) != 0) return std::nullopt;
  return Peer{process_name(credentials.pid, *ticks), credentials.pid, credentials.uid, std::move(pidfd)};
}

std::optional<Peer> find_process(pid_t pid, uint64_t asker) {
  const auto seen_as = status_numbers(pid_of(asker), "NSpid:");
  const OwnedFd asker_pidfd = open_process(asker);  // after what was read of it
  if (!asker_pidfd || !seen_as || seen_as->size() != 1) return std::nullopt;
  OwnedFd pidfd = pidfd_of(pid);
  if (!pidfd) return std::nullopt;
  const auto ticks = started_ticks(pid);
  const auto users = status_numbers(pid, "Uid:");
  // As long as it has not ended nobody else has its number, so what was read in between was its own.
  if (!ticks || !users || users->empty() || has_ended(pidfd.get())) return std::nullopt;
  const bool is_one = std::all_of(users->begin(), users->end(), [&](uint64_t each) { return each == users->front(); });
  if (!is_one) return std::nullopt;
  return Peer{process_name(pid, *ticks), pid, static_cast<uid_t>(users->front()), std::move(pidfd)};
}

pid_t loopback_peer(int socket) {
  sockaddr_in here{};
  sockaddr_in there{};
  socklen_t here_size = sizeof(here);
  socklen_t there_size = sizeof(there);
  const bool is_connected = getsockname(socket, reinterpret_cast<sockaddr*>(&here), &here_size) == 0 &&
                            getpeername(socket, reinterpret_cast<sockaddr*>(&there), &there_size) == 0;
  if (!is_connected || here.sin_family != AF_INET || there.sin_family != AF_INET) return 0;
  const std::string inode = inode_of(end_text(there), end_text(here));
  if (inode.empty()) return 0;
  const std::filesystem::path what = "socket:[" + inode + "]";
  std::error_code failed;
  for (std::filesystem::directory_iterator at("/proc", failed), end; !failed && at != end; at.increment(failed)) {
    const std::string name = at->path().filename();
    pid_t pid = 0;
    const auto parsed = std::from_chars(name.data(), name.data() + name.size(), pid);
    const bool is_pid = parsed.ec == std::errc() && parsed.ptr == name.data() + name.size();
    if (is_pid && has_open(at->path(), what)) return pid;
  }
  return 0;
}

OwnedFd open_process(uint64_t name) {
  const pid_t pid = pid_of(name);
  OwnedFd pidfd = pidfd_of(pid);
  if (!pidfd) return {};
  const auto ticks = started_ticks(pid);
  const bool is_same = ticks && process_name(pid, *ticks) == name && !has_ended(pidfd.get());
  return is_same ? std::move(pidfd) : OwnedFd();
}

bool signal_process(int pidfd, int signum) { return syscall(SYS_pidfd_send_signal, pidfd, signum, nullptr, 0) == 0; }

struct ProcessWatch::Poll {
  uv_poll_t handle;
  OwnedFd pidfd;
  std::function<void()> on_end;
};

ProcessWatch::ProcessWatch(Loop& loop, OwnedFd pidfd, std::function<void()> on_end) : poll_(new Poll{}) {
  poll_->pidfd = std::move(pidfd);
  poll_->on_end = std::move(on_end);
  poll_->handle.data = poll_;
  MESH_CHECK(uv_poll_init(loop.handle(), &poll_->handle, poll_->pidfd.get()) == 0);
  uv_poll_start(&poll_->handle, UV_READABLE, [](uv_poll_t* handle, int, int) {
    uv_poll_stop(handle);
    // It may destroy the watch, and this function with it.
    const auto told = std::exchange(static_cast<Poll*>(handle->data)->on_end, nullptr);
    if (told) told();
  });
}

ProcessWatch::~ProcessWatch() {
  poll_->on_end = nullptr;
  uv_close(reinterpret_cast<uv_handle_t*>(&poll_->handle),
           [](uv_handle_t* closed) { delete static_cast<Poll*>(closed->data); });
}

bool ProcessWatch::signal(int signum) { return signal_process(poll_->pidfd.get(), signum); }

}  // namespace mesh::io
