#include "sidecar/io/descriptor_keeper.h"

#include <poll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <utility>

namespace mesh::io {
namespace {

enum class Verb : uint32_t { kList, kPut, kLabel, kDrop, kAgreed };

// The same program is at both ends. A packet is one of these, or several labels.
struct Note {
  Verb verb;
  uint32_t is_last = 0;  // of a list
  uint64_t number = 0;
  KeptLabel label{};
};

bool send_notes(int socket, std::span<const Note> notes, int fd = -1, int flags = 0) {
  iovec part{const_cast<Note*>(notes.data()), notes.size_bytes()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (fd >= 0) {
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(header), &fd, sizeof(fd));
  }
  ssize_t sent = 0;
  do {
    sent = sendmsg(socket, &message, MSG_NOSIGNAL | flags);
  } while (sent < 0 && errno == EINTR);
  return sent == static_cast<ssize_t>(notes.size_bytes());
}

bool send_note(int socket, const Note& note, int fd = -1) { return send_notes(socket, {&note, 1}, fd); }

// The notes of a packet, none when the other end has hung up, and the descriptor that came beside them.
std::span<const Note> receive_notes(int socket, std::span<Note> room, OwnedFd& fd) {
  iovec part{room.data(), room.size_bytes()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  ssize_t got = 0;
  do {
    got = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  } while (got < 0 && errno == EINTR);
  if (got <= 0 || static_cast<size_t>(got) % sizeof(Note) != 0) return {};
  const cmsghdr* const header = CMSG_FIRSTHDR(&message);
  if (header != nullptr && header->cmsg_type == SCM_RIGHTS) {
    int given = -1;
    std::memcpy(&given, CMSG_DATA(header), sizeof(given));
    fd.reset(given);
  }
  return room.first(static_cast<size_t>(got) / sizeof(Note));
}

bool receive_note(int socket, Note& note, OwnedFd& fd) { return !receive_notes(socket, {&note, 1}, fd).empty(); }

std::vector<Note> notes_of(std::span<const LabelledNumber> labels) {
  std::vector<Note> notes;
  for (const auto& [number, label] : labels) notes.push_back({.verb = Verb::kLabel, .number = number, .label = label});
  return notes;
}

using Shelf = std::map<uint64_t, KeptDescriptor>;

void send_list(int socket, const Shelf& shelf) {
  for (const auto& [number, kept] : shelf)
    send_note(socket, {.verb = Verb::kPut, .number = number, .label = kept.label}, kept.fd.get());
  send_note(socket, {.verb = Verb::kList, .is_last = 1});
}

void obey(int socket, const Note& note, OwnedFd fd, Shelf& shelf) {
  switch (note.verb) {
    case Verb::kList:
      send_list(socket, shelf);
      break;
    case Verb::kPut:
      if (fd) shelf[note.number] = {note.number, note.label, std::move(fd)};
      break;
    case Verb::kLabel:
      if (const auto kept = shelf.find(note.number); kept != shelf.end()) kept->second.label = note.label;
      break;
    case Verb::kDrop:
      shelf.erase(note.number);
      if (note.is_last != 0) send_note(socket, {.verb = Verb::kAgreed});
      break;
    case Verb::kAgreed:
      break;
  }
}

// One packet of the owner. False when it has hung up, and nothing of what it sent is left.
bool serve(int socket, Shelf& shelf) {
  std::array<Note, DescriptorKeeper::kLabelsAtOnceMax> room;
  OwnedFd fd;
  const std::span<const Note> notes = receive_notes(socket, room, fd);
  for (const Note& note : notes) obey(socket, note, std::exchange(fd, OwnedFd()), shelf);  // it is the first one's
  return !notes.empty();
}

int64_t monotonic_ms() {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1000 + time.tv_nsec / 1'000'000;
}

// An owner that does not get far is started ever more rarely; another one at once, for whoever waits for it waits for
// memory.
class Restarts {
 public:
  void began() { began_ms_ = monotonic_ms(); }
  int64_t pause_ms() {
    constexpr int64_t kShortLifeMs = 200;
    constexpr int64_t kPauseMsMax = 2000;
    constexpr int kAtOnce = 3;
    const bool was_short = monotonic_ms() - began_ms_ < kShortLifeMs;
    short_lives_ = was_short ? short_lives_ + 1 : 0;
    if (short_lives_ <= kAtOnce) return 0;
    return std::min(kPauseMsMax, int64_t{50} << std::min(short_lives_ - kAtOnce, 8));
  }

 private:
  int64_t began_ms_ = 0;
  int short_lives_ = 0;
};

struct Owner {
  pid_t pid = -1;
  OwnedFd socket{};
};

// The child has copies of all that is kept, which would keep it for good: it lets go of them first.
Owner start(const std::function<int(OwnedFd)>& owner, const sigset_t& before, OwnedFd& signals, Shelf& shelf) {
  int ends[2] = {-1, -1};
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) return {};
  OwnedFd ours(ends[0]);
  OwnedFd its(ends[1]);
  const pid_t pid = fork();
  if (pid != 0) return {pid, std::move(ours)};
  ours.reset();
  signals.reset();
  shelf.clear();
  sigprocmask(SIG_SETMASK, &before, nullptr);
  prctl(PR_SET_NAME, "mesh-arbiter");
  const int code = owner(std::move(its));
  std::fflush(nullptr);
  _exit(code);
}

// Serves until the owner hangs up, then gives its wait status. Signals to end are passed on.
int attend(Owner& owner, int signals, Shelf& shelf, bool& is_to_end) {
  for (;;) {
    pollfd ready[] = {{.fd = owner.socket.get(), .events = POLLIN, .revents = 0},
                      {.fd = signals, .events = POLLIN, .revents = 0}};
    if (poll(ready, 2, -1) < 0 && errno != EINTR) break;
    if (ready[1].revents != 0) {
      signalfd_siginfo got{};
      if (read(signals, &got, sizeof(got)) == sizeof(got)) {
        is_to_end = true;
        kill(owner.pid, static_cast<int>(got.ssi_signo));
      }
    }
    if (ready[0].revents != 0 && !serve(owner.socket.get(), shelf)) break;
  }
  int status = 0;
  while (waitpid(owner.pid, &status, 0) < 0 && errno == EINTR) {
  }
  return status;
}

}  // namespace

bool DescriptorKeeper::list(std::vector<KeptDescriptor>& kept) {
  if (!send_note(socket_.get(), {.verb = Verb::kList})) return false;
  for (;;) {
    Note note{};
    OwnedFd fd;
    if (!receive_note(socket_.get(), note, fd)) return false;
    if (note.verb == Verb::kList) return true;
    if (fd) kept.push_back({note.number, note.label, std::move(fd)});
  }
}

bool DescriptorKeeper::put(uint64_t number, const KeptLabel& label, int fd) {
  return send_note(socket_.get(), {.verb = Verb::kPut, .number = number, .label = label}, fd);
}

bool DescriptorKeeper::label(std::span<const LabelledNumber> labels) {
  for (; !labels.empty(); labels = labels.subspan(std::min(labels.size(), kLabelsAtOnceMax))) {
    if (!send_notes(socket_.get(), notes_of(labels.first(std::min(labels.size(), kLabelsAtOnceMax))))) return false;
  }
  return true;
}

DescriptorKeeper::Said DescriptorKeeper::label_at_once(std::span<const LabelledNumber> labels) {
  if (labels.empty()) return Said::kAll;
  if (labels.size() > kLabelsAtOnceMax) return Said::kNothing;
  const std::vector<Note> notes = notes_of(labels);
  if (send_notes(socket_.get(), notes, -1, MSG_DONTWAIT)) return Said::kAll;
  return errno == EAGAIN || errno == ENOBUFS ? Said::kNothing : Said::kNobodyThere;
}

bool DescriptorKeeper::drop(std::span<const uint64_t> numbers) {
  for (size_t i = 0; i < numbers.size(); ++i) {
    const uint32_t is_last = i + 1 == numbers.size() ? 1 : 0;
    if (!send_note(socket_.get(), {.verb = Verb::kDrop, .is_last = is_last, .number = numbers[i]})) return false;
  }
  Note agreed{};
  OwnedFd none;
  return numbers.empty() || receive_note(socket_.get(), agreed, none);
}

int keep_descriptors_for(const std::function<int(OwnedFd keeper)>& owner) {
  sigset_t ending;
  sigset_t before;
  sigemptyset(&ending);
  sigaddset(&ending, SIGTERM);
  sigaddset(&ending, SIGINT);
  sigprocmask(SIG_BLOCK, &ending, &before);
  OwnedFd signals(signalfd(-1, &ending, SFD_CLOEXEC));
  prctl(PR_SET_NAME, "mesh-gpu-keeper");
  Shelf shelf;
  Restarts restarts;
  bool is_to_end = false;
  for (;;) {
    restarts.began();
    Owner child = start(owner, before, signals, shelf);
    if (child.pid < 0) return EXIT_FAILURE;
    const int status = attend(child, signals.get(), shelf, is_to_end);
    if (WIFEXITED(status)) return WEXITSTATUS(status);
    if (is_to_end) return EXIT_FAILURE;
    std::fprintf(stderr, "mesh-arbiter: ended by signal %d, starting it again with %zu descriptors\n", WTERMSIG(status),
                 shelf.size());
    pollfd ready{.fd = signals.get(), .events = POLLIN, .revents = 0};
    if (poll(&ready, 1, static_cast<int>(restarts.pause_ms())) > 0) return EXIT_FAILURE;
  }
}

}  // namespace mesh::io
