// A host with cards and agents on a virtual clock, which knows what is really where: the engine is told only what an
// arbiter would be told. Agents are honest, slow, stubborn, or say that they freed what they did not; they die, hang up
// and come back, lease for each other, others take memory without a lease, the driver fails, and the arbiter is
// restarted.
#pragma once

#include <doctest/doctest.h>

#include <array>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "common/base/prng.h"
#include "sidecar/arbiter/engine.h"

namespace mesh::arbiter {

struct WorldTerms {
  std::vector<Units> cards = {gpu::units_of(12 * gpu::kGiB), gpu::units_of(8 * gpu::kGiB)};
  size_t agents = 24;
  int64_t pause_ms = 3000;  // of an agent between two leases, about
  int64_t hold_ms_max = 20'000;
  Units foreign_max = 0;      // what others may come to use of a card
  bool is_honest = true;      // nobody refuses, lies, dies or hangs up
  bool is_firm = false;       // nobody is revocable
  bool is_saturated = false;  // each agent asks for memory of one priority, as often as it may
  bool restarts = false;
  bool sees_processes = true;
  bool has_failures = false;     // of the driver
  bool has_go_betweens = false;  // some lease for another agent, honestly
  bool has_heat = false;         // cards are hot now and then
};

class World {
 public:
  World(WorldTerms terms, uint64_t seed);

  // One thing happens: something on the schedule, or the engine's own time.
  void step();
  // Everybody goes; what is held then was forgotten.
  void end();

  Instant now{milliseconds(1'000'000)};
  std::unique_ptr<Engine> engine;
  // What was seen.
  uint64_t grants = 0;
  uint64_t refusals = 0;
  uint64_t yields = 0;
  uint64_t signals = 0;
  uint64_t restarts = 0;
  uint64_t segments_shared = 0;
  uint64_t begun = 0;           // who had waited to compute
  uint64_t left_behind = 0;     // leases whose holder ended and whose user did not
  Duration longest_reserved{};  // from a reservation of one that waited too long to its grant
  std::array<double, gpu::kPriorities> unit_seconds{};

 private:
  enum class Character : uint8_t { kHonest, kSlow, kStubborn, kLiar };
  struct Holding {
    uint64_t epoch = 0;
    gpu::Request request{};
    GpuMask on = 0;
    Units told = 0;  // what it was granted and did not say to be free
    Units used = 0;  // what it really has; of a shared or backed one nothing of its own
    Extents extents{};
    LeaseId segment{};
    bool is_writer = false;
    Instant since{};
    ProcessId used_by = 0;
  };
  struct LeftBehind {
    Units units = 0;
    GpuMask on = 0;
    ProcessId used_by = 0;
    gpu::ModelKey model{};
  };
  struct Agent {
    ProcessId process = 0;
    ConnectionId connection = 0;
    bool is_alive = true;
    Character character = Character::kHonest;
    std::map<LeaseId, Holding> held{};
    std::map<LeaseId, gpu::Request> asked{};
    std::map<LeaseId, ProcessId> asked_for{};  // another one
    std::vector<Units> context{};
  };
  struct Truth {  // of one card
    Units foreign = 0;
    Units foreign_sampled = 0;
    std::map<ProcessId, Units> used_sampled{};
    std::map<LeaseId, Units> chunks{};
    Units pool = 0;
  };

  void after(int64_t ms, std::function<void()> what) { schedule_.emplace(now + milliseconds(ms), std::move(what)); }
  int64_t some(int64_t below) { return static_cast<int64_t>(prng_.below(static_cast<uint64_t>(below))); }
  template <class Event>
  void tell(const Event& event) {
    Actions out;
    engine->on(event, now, out);
    carry_out(out);
  }
  Agent* agent_at(ConnectionId connection);
  Agent* agent_of(ProcessId process);
  void start_agent(size_t place);
  void ask(ProcessId process);
  gpu::Request any_request(const Agent& agent);
  void release(ProcessId process, LeaseId id);
  void die(ProcessId process);
  void leave_behind(const Agent& agent);
  void leave_behind(LeaseId id, const Holding& holding);
  void end_uses_of(ProcessId process);
  ProcessId any_other(const gpu::Request& request, ProcessId process);
  void sample(GpuIndex gpu);
  Units used_by(const Agent& agent, GpuIndex gpu) const;
  void restart();
  void carry_out(const Actions& actions);
  void carry(const SendGrant& grant);
  void carry(const SendRefusal& refusal);
  void carry(const SendError&) {}
  void carry(const AskYield& asked);
  void carry(const SendBegin&) { ++begun; }
  void carry(const SignalProcess& signal);
  void carry(const WatchProcess& watch);
  void carry(const CreateChunks& create);
  void carry(const ReturnChunks& back);
  void carry(const ReleaseChunks& release) { truth_[release.gpu].pool -= release.extents.units(); }
  void carry(const SampleGpu& asked);
  void carry(const AppendJournal& append);
  void carry(const RecordDecision&) {}
  void yield(ProcessId process, LeaseId id, Units units, bool is_lie);
  void check_room(GpuIndex gpu) const;
  void account(const Holding& holding);
  void watch_reservations();
  void check_nothing_forgotten() const;

  WorldTerms terms_;
  Prng prng_;
  std::multimap<Instant, std::function<void()>> schedule_;
  std::vector<Agent> agents_;
  std::map<LeaseId, LeftBehind> left_behind_;
  std::vector<Truth> truth_;
  std::map<LeaseId, JournalEntry> journal_leases_;
  std::map<LeaseId, JournalEntry> journal_segments_;
  uint64_t journal_epoch_ = 0;
  std::map<LeaseId, Instant> reserved_since_;
  uint64_t next_id_ = 0;
  uint64_t next_process_ = 0;
  uint64_t next_connection_ = 0;
  bool is_ending_ = false;
};

}  // namespace mesh::arbiter
