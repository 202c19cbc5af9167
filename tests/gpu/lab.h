// Where an experiment runs: it spawns puppets, watches the card from a process that uses none of it, and notes facts.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "sidecar/io/gpu/memfd_device.h"
#include "sidecar/io/gpu/nvml.h"
#include "tests/gpu/puppet.h"

namespace mesh::facts {

using Clock = std::chrono::steady_clock;
inline double ms_between(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double, std::milli>(to - from).count();
}
inline double ms_since(Clock::time_point from) { return ms_between(from, Clock::now()); }
void sleep_ms(double ms);

inline constexpr double kMiB = 1024.0 * 1024.0;

class Lab {
 public:
  explicit Lab(Backend backend);

  const Backend& backend() const { return backend_; }
  Puppet spawn() { return Puppet(backend_); }
  // With the driver open.
  Puppet owner();
  // With a context, too.
  Puppet client();

  // What stands for 1 GiB and 256 MiB; less where the processor has to fill it.
  uint64_t gib() const { return extent() * 4; }
  uint64_t extent() const { return uint64_t{backend_.is_cuda() ? 256U : 8U} << 20; }

  void note(const std::string& key, double value);
  void note(const std::string& key, const std::string& value);
  // Median, least, most and count, as key_p50, key_min, key_max and key_n; and all of them in their order.
  void note_all(const std::string& key, std::vector<double> values);
  void note_error(const std::string& text);
  // Notes an error if it is one.
  bool is_ok(const Reply& reply);
  // What was answered, as a fact: "ok" or the error.
  void note_answer(const std::string& key, const Reply& reply);
  // The same for calls whose time is of interest.
  void note_time(const std::string& key, const Reply& reply);

  // Of the card, in MiB; negative if nobody tells.
  double used_mib();
  // Of that process; nothing if it is not listed.
  std::optional<double> used_mib_by(pid_t pid);
  // Waits until used_mib() no longer moves, at most that long, and returns it.
  double settled_mib(double ms_max = 1500);
  // Null if there is none. NVML is opened by the first who wants to see something.
  io::Nvml* nvml();
  io::NvmlDevice watched() const { return watched_; }

 private:
  bool is_nvml_asked_for_ = false;
  Backend backend_;
  std::unique_ptr<io::Nvml> nvml_;
  io::NvmlDevice watched_;
  std::unique_ptr<io::MemfdDevice> files_;
};

struct Experiment {
  std::string name;
  int seconds_max;
  bool is_alone;  // no other process may have the driver open
  void (*run)(Lab& lab);
};
std::vector<Experiment> memory_experiments();
std::vector<Experiment> death_experiments();
std::vector<Experiment> time_experiments();

}  // namespace mesh::facts
