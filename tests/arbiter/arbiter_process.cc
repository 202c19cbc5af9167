#include "tests/arbiter/arbiter_process.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fstream>

namespace mesh::arbiter {

ArbiterProcess::ArbiterProcess(const std::string& card, const std::string& reserve)
    : ArbiterProcess("memfd:" + card, reserve, "") {}

std::unique_ptr<ArbiterProcess> ArbiterProcess::on_stand_in(const std::string& folder) {
  return std::unique_ptr<ArbiterProcess>(new ArbiterProcess("cuda", "0", folder));
}

std::unique_ptr<ArbiterProcess> ArbiterProcess::on_card() {
  return std::unique_ptr<ArbiterProcess>(new ArbiterProcess("cuda", "512M", ""));
}

ArbiterProcess::ArbiterProcess(const std::string& device, const std::string& reserve,
                               const std::string& driver_folder) {
  char made[] = "/tmp/mesh-arbiter-XXXXXX";
  REQUIRE(mkdtemp(made) != nullptr);
  directory_ = made;
  const char* const program = std::getenv("MESH_ARBITER");
  REQUIRE_MESSAGE(program != nullptr, "MESH_ARBITER names the program");
  keeper_ = fork();
  if (keeper_ == 0) {
    const int log = open((directory_ + "/log").c_str(), O_CREAT | O_WRONLY | O_APPEND, 0600);
    dup2(log, STDERR_FILENO);
    if (!driver_folder.empty()) {
      setenv("LD_LIBRARY_PATH", driver_folder.c_str(), 1);
      setenv("MESH_STAND_IN_BOOK", (directory_ + "/gpu-0.book").c_str(), 1);
    }
    execl(program, program, "--device", device.c_str(), "--runtime-dir", directory_.c_str(), "--reserve",
          reserve.c_str(), nullptr);
    _exit(127);
  }
  REQUIRE(comes_to_say("gpus", "\"is_sampled\":true"));
}

ArbiterProcess::~ArbiterProcess() {
  if (keeper_ > 0) CHECK(stop() == 0);
  if (std::getenv("MESH_ARBITER_LOG") != nullptr) {
    std::ifstream log(directory_ + "/log");
    for (std::string line; std::getline(log, line);) MESSAGE(line);
  }
  for (const char* name : {"log", "gpu.journal", "gpu.lock", "gpu-0.book"}) unlink((directory_ + "/" + name).c_str());
  rmdir(directory_.c_str());
}

int ArbiterProcess::stop() {
  kill(keeper_, SIGTERM);
  const int code = exit_code_of(keeper_);
  keeper_ = -1;
  return code;
}

std::unique_ptr<LeaseClient> ArbiterProcess::connected() const {
  auto made = std::make_unique<LeaseClient>(directory_ + "/gpu.leases");
  REQUIRE(made->connect());
  return made;
}

std::unique_ptr<io::MemfdDevice> ArbiterProcess::card() const {
  auto opened = io::MemfdDevice::open({.total_bytes = io::kMemoryUnitBytes, .book_path = directory_ + "/gpu-0.book"});
  REQUIRE(opened.has_value());
  return std::move(*opened);
}

pid_t ArbiterProcess::pid() const {
  std::ifstream children("/proc/" + std::to_string(keeper_) + "/task/" + std::to_string(keeper_) + "/children");
  pid_t child = 0;
  children >> child;
  return child;
}

void ArbiterProcess::kill_arbiter() const {
  const pid_t child = pid();
  REQUIRE(child > 0);
  REQUIRE(kill(child, SIGKILL) == 0);
}

std::string ArbiterProcess::ask_admin(const std::string& question) const {
  const io::OwnedFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, (directory_ + "/gpu.admin").c_str(), sizeof(address.sun_path) - 1);
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) return {};
  const std::string line = question + "\n";
  if (::send(fd.get(), line.data(), line.size(), MSG_NOSIGNAL) < 0) return {};
  std::string answer;
  char part[4096];
  for (ssize_t got = 0; (got = read(fd.get(), part, sizeof(part))) > 0;) answer.append(part, static_cast<size_t>(got));
  return answer;
}

bool ArbiterProcess::comes_to_say(const std::string& question, const std::string& text, int64_t within_ms) const {
  const double until = seconds_now() + static_cast<double>(within_ms) / 1000;
  std::string said;
  while (seconds_now() < until) {
    said = ask_admin(question);
    if (said.find(text) != std::string::npos) return true;
    usleep(10'000);
  }
  MESSAGE("it says: " << said);
  return false;
}

pid_t start_process(const std::function<int()>& role) {
  const pid_t pid = fork();
  if (pid != 0) return pid;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  _exit(role());
}

int exit_code_of(pid_t pid) {
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

void* map_shared(size_t bytes) {
  void* const at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  REQUIRE(at != MAP_FAILED);
  return at;
}

void unmap_shared(void* at, size_t bytes) { munmap(at, bytes); }

OnOneCpu::OnOneCpu(bool is_wanted) {
  sched_getaffinity(0, sizeof(before_), &before_);
  int last = 0;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) last = CPU_ISSET(cpu, &before_) ? cpu : last;
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(last, &one);
  if (is_wanted) sched_setaffinity(0, sizeof(one), &one);
}

OnOneCpu::~OnOneCpu() { sched_setaffinity(0, sizeof(before_), &before_); }

Bell::Bell() : fd_(eventfd(0, EFD_CLOEXEC | EFD_SEMAPHORE)) {}

void Bell::ring() const { (void)eventfd_write(fd_.get(), 1); }

bool Bell::wait() const {
  pollfd rung{.fd = fd_.get(), .events = POLLIN, .revents = 0};
  eventfd_t once = 0;
  return poll(&rung, 1, 30'000) == 1 && eventfd_read(fd_.get(), &once) == 0;
}

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void print_times(const std::string& what, std::vector<double> seconds) {
  if (seconds.empty()) return;
  std::sort(seconds.begin(), seconds.end());
  const double per_second = seconds[seconds.size() / 2] < 1e-3 ? 1e6 : 1e3;
  const std::string unit = per_second == 1e6 ? " us" : " ms";
  const auto at = [&](size_t percent) { return seconds[(percent * (seconds.size() - 1) + 50) / 100] * per_second; };
  MESSAGE(what << ": median " << at(50) << unit << ", p99 " << at(99) << unit << ", of " << seconds.size());
}

int rounds(const char* variable, int by_default) {
  const char* const text = std::getenv(variable);
  return text == nullptr ? by_default : std::atoi(text);
}

}  // namespace mesh::arbiter
