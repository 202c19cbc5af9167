// A mesh-arbiter of its own for a test, with a card made of files in memory, and processes that play its agents.
#pragma once

#include <sched.h>
#include <sys/types.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "sidecar/io/gpu/memfd_device.h"
#include "tests/arbiter/lease_client.h"

namespace mesh::arbiter {

class ArbiterProcess {
 public:
  // `card` is the size of mesh-arbiter's --device, e.g. "1G".
  explicit ArbiterProcess(const std::string& card, const std::string& reserve = "0");
  // With a driver that is none, from that folder: its card has 16 GiB.
  static std::unique_ptr<ArbiterProcess> on_stand_in(const std::string& folder);
  // With the driver of this host.
  static std::unique_ptr<ArbiterProcess> on_card();
  ~ArbiterProcess();
  ArbiterProcess(const ArbiterProcess&) = delete;
  ArbiterProcess& operator=(const ArbiterProcess&) = delete;

  LeaseClient client() const { return LeaseClient(directory_ + "/gpu.leases"); }
  // A client that is connected.
  std::unique_ptr<LeaseClient> connected() const;
  // The card, for who allocates by himself.
  std::unique_ptr<io::MemfdDevice> card() const;
  // The arbiter itself, not its keeper; 0 while there is none.
  pid_t pid() const;
  pid_t keeper() const { return keeper_; }
  void kill_arbiter() const;
  // A line of JSON.
  std::string ask_admin(const std::string& question) const;
  // True if the line comes to contain that within so long.
  bool comes_to_say(const std::string& question, const std::string& text, int64_t within_ms = 5000) const;
  // Tells it to end, and gives its exit code.
  int stop();

 private:
  ArbiterProcess(const std::string& device, const std::string& reserve, const std::string& driver_folder);

  std::string directory_;
  pid_t keeper_ = -1;
};

// Runs `role` in a process of its own, whose exit code it gives.
pid_t start_process(const std::function<int()>& role);
// -1 if it was killed.
int exit_code_of(pid_t pid);

// Memory that all processes of a test share.
template <class Value>
class SharedValue {
 public:
  SharedValue();
  ~SharedValue();
  SharedValue(const SharedValue&) = delete;
  SharedValue& operator=(const SharedValue&) = delete;
  Value* operator->() const { return value_; }
  Value& operator*() const { return *value_; }

 private:
  Value* value_;
};

void* map_shared(size_t bytes);
void unmap_shared(void* at, size_t bytes);

template <class Value>
SharedValue<Value>::SharedValue() : value_(new(map_shared(sizeof(Value))) Value{}) {}
template <class Value>
SharedValue<Value>::~SharedValue() {
  unmap_shared(value_, sizeof(Value));
}

// Keeps this process on one CPU; what it starts meanwhile stays there.
class OnOneCpu {
 public:
  explicit OnOneCpu(bool is_wanted);
  ~OnOneCpu();
  OnOneCpu(const OnOneCpu&) = delete;
  OnOneCpu& operator=(const OnOneCpu&) = delete;

 private:
  cpu_set_t before_{};
};

// What a process sleeps on until another one that was forked with it rings, once for each.
class Bell {
 public:
  Bell();
  void ring() const;
  // False if it was not rung for long.
  bool wait() const;

 private:
  io::OwnedFd fd_;
};

double seconds_now();
// Median and 99th percentile.
void print_times(const std::string& what, std::vector<double> seconds);
// So many by default, or as the environment says.
int rounds(const char* variable, int by_default);

}  // namespace mesh::arbiter
