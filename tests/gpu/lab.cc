#include "tests/gpu/lab.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <thread>

namespace mesh::facts {
namespace {

constexpr uint64_t kCardBytes = uint64_t{2} << 30;

std::string in_one_line(std::string text) {
  for (char& c : text) c = c == '\n' || c == '\t' ? ' ' : c;
  return text;
}

}  // namespace

void sleep_ms(double ms) { std::this_thread::sleep_for(std::chrono::duration<double, std::milli>(ms)); }

Lab::Lab(Backend backend) : backend_(std::move(backend)) {
  if (backend_.is_cuda()) return;
  auto files = io::MemfdDevice::open({.total_bytes = kCardBytes, .book_path = backend_.book_path});
  if (files) files_ = std::move(*files);
}

io::Nvml* Lab::nvml() {
  if (is_nvml_asked_for_ || !backend_.is_cuda()) return nvml_.get();
  is_nvml_asked_for_ = true;
  auto nvml = io::Nvml::open();
  if (!nvml) {
    note_error(nvml.error().text);
    return nullptr;
  }
  const auto watched = (*nvml)->at(0);
  if (!watched) {
    note_error(watched.error().text);
    return nullptr;
  }
  nvml_ = std::move(*nvml);
  watched_ = *watched;
  return nvml_.get();
}

Puppet Lab::owner() {
  Puppet puppet = spawn();
  is_ok(puppet.ask("open"));
  return puppet;
}

Puppet Lab::client() {
  Puppet puppet = owner();
  is_ok(puppet.ask("enter"));
  return puppet;
}

// The runner reads these lines, so each is written whole, at once.
void Lab::note(const std::string& key, double value) {
  std::printf("fact\t%s\t%.10g\n", key.c_str(), value);
  std::fflush(stdout);
}

void Lab::note(const std::string& key, const std::string& value) {
  std::printf("fact\t%s\t%s\n", key.c_str(), in_one_line(value).c_str());
  std::fflush(stdout);
}

void Lab::note_error(const std::string& text) {
  std::printf("error\t%s\n", in_one_line(text).c_str());
  std::fflush(stdout);
}

void Lab::note_all(const std::string& key, std::vector<double> values) {
  if (values.empty()) return;
  std::string all;
  char text[32];
  for (const double value : values) {
    std::snprintf(text, sizeof(text), "%s%.4g", all.empty() ? "" : " ", value);
    all += text;
  }
  note(key + "_all", all);
  std::sort(values.begin(), values.end());
  note(key + "_p50", values[values.size() / 2]);
  note(key + "_min", values.front());
  note(key + "_max", values.back());
  note(key + "_n", static_cast<double>(values.size()));
}

bool Lab::is_ok(const Reply& reply) {
  if (!reply.is_ok) note_error(reply.text);
  return reply.is_ok;
}

void Lab::note_answer(const std::string& key, const Reply& reply) { note(key, reply.is_ok ? "ok" : reply.text); }

void Lab::note_time(const std::string& key, const Reply& reply) {
  if (is_ok(reply)) note(key, reply.number("us") / 1000);
}

double Lab::used_mib() {
  if (files_ != nullptr) return static_cast<double>(files_->query_device()->used_bytes) / kMiB;
  if (nvml() == nullptr) return -1;
  const auto reading = nvml_->memory(watched_);
  return reading ? static_cast<double>(reading->used_bytes) / kMiB : -1;
}

std::optional<double> Lab::used_mib_by(pid_t pid) {
  if (files_ == nullptr && nvml() == nullptr) return std::nullopt;
  const auto processes = files_ != nullptr ? files_->query_processes() : nvml_->processes(watched_);
  if (!processes) {
    note_error(processes.error().text);
    return std::nullopt;
  }
  for (const io::ProcessUse& process : *processes) {
    if (process.pid == pid) return static_cast<double>(process.bytes) / kMiB;
  }
  return std::nullopt;
}

double Lab::settled_mib(double ms_max) {
  constexpr double kQuietMs = 100;
  const auto start = Clock::now();
  auto moved = start;
  double used = used_mib();
  while (ms_since(start) < ms_max && ms_since(moved) < kQuietMs) {
    sleep_ms(5);
    const double next = used_mib();
    if (std::abs(next - used) > 0.01) moved = Clock::now();
    used = next;
  }
  return used;
}

}  // namespace mesh::facts
