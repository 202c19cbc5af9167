// An engine with a clock, and agents that a test speaks for.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "sidecar/arbiter/engine.h"

namespace mesh::arbiter {

inline constexpr Units kGiBUnits = gpu::units_of(gpu::kGiB);

inline ArbiterConfig cards(std::vector<Units> totals, bool sees_processes = false) {
  ArbiterConfig config;
  config.sees_processes = sees_processes;
  for (const Units total : totals) {
    config.gpus.push_back({{0, config.gpus.size() + 1}, {total, 0, gpu::bounds::emergency_units}, {}});
  }
  return config;
}

inline LeaseId id_of(uint64_t number) { return {7, number}; }

struct Desk {
  explicit Desk(ArbiterConfig config, std::vector<JournalEntry> before = {})
      : gpus(config.gpus.size()), engine(std::move(config)), journal(std::move(before)) {
    const std::vector<JournalEntry> read = journal;
    engine.begin(read, now, actions);
    keep_journal();
    sample_all();
  }

  template <class Event>
  void tell(const Event& event) {
    actions.clear();
    engine.on(event, now, actions);
    after();
  }
  void wait(int64_t ms) {
    actions.clear();
    const Instant until = now + milliseconds(ms);
    for (Instant next = engine.next_deadline(); next <= until; next = engine.next_deadline()) {
      now = std::max(now, next);
      engine.on_time(now, actions);
      if (engine.next_deadline() <= now) break;
    }
    now = until;
    engine.on_time(now, actions);
    after();
  }
  void sample(GpuIndex gpu, Units used, std::vector<ProcessSample> processes = {}) {
    GpuSampled sampled;
    sampled.gpu = gpu;
    sampled.used = used;
    sampled.processes = std::move(processes);
    tell(sampled);
  }
  void sample_all() {
    for (GpuIndex gpu = 0; gpu < gpus; ++gpu) sample(gpu, 0);
  }

  // Asks as process and connection `who`, for so many units.
  gpu::Request request(Units units) const {
    gpu::Request made;
    made.min = made.want = units;
    return made;
  }
  void ask(uint64_t who, uint64_t number, gpu::Request request) {
    tell(LeaseAsked{who, who, id_of(number), request, {}});
  }
  LeaseName name(uint64_t who, uint64_t number) const { return {who, who, id_of(number), engine.epoch()}; }
  // Granted, and committed to all of it.
  void hold(uint64_t who, uint64_t number, gpu::Request request) {
    ask(who, number, request);
    REQUIRE(granted(number));
    tell(LeaseCommitted{name(who, number), engine.entries().at(id_of(number)).lease.units, {}});
  }

  template <class Wanted>
  const Wanted* find(uint64_t number) const {
    for (const Action& action : actions) {
      const auto* found = std::get_if<Wanted>(&action);
      if (found != nullptr && found->id == id_of(number)) return found;
    }
    return nullptr;
  }
  bool granted(uint64_t number) const { return find<SendGrant>(number) != nullptr; }
  bool asked_to_yield(uint64_t number) const { return find<AskYield>(number) != nullptr; }
  Reason refused(uint64_t number) const {
    const auto* refusal = find<SendRefusal>(number);
    return refusal == nullptr ? Reason::kNone : refusal->reason;
  }
  template <class Wanted>
  size_t count() const {
    return static_cast<size_t>(std::count_if(
        actions.begin(), actions.end(), [](const Action& action) { return std::holds_alternative<Wanted>(action); }));
  }
  Units grantable(GpuIndex gpu = 0) const { return engine.gpus()[gpu].ledger.grantable(); }

  void keep_journal() {
    for (const Action& action : actions) {
      if (const auto* append = std::get_if<AppendJournal>(&action)) journal.push_back(append->entry);
    }
  }
  void after() {
    keep_journal();
    REQUIRE(engine.holds());
  }

  size_t gpus;
  Instant now{milliseconds(1'000'000)};
  Actions actions;  // of the last event
  Engine engine;
  std::vector<JournalEntry> journal;
};

}  // namespace mesh::arbiter
