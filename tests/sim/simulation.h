// A mesh of two hosts under faults, with callers of every habit, and everything that must never happen.
//
//   host a: callers, sidecar a/main with an agent of its own      host b: sidecars b/main and b/second with agents
//           sidecar a/readers with callers of its own
//
// Callers ask, and operators order purges, while faults come and go; then the faults stop, and everybody has to be
// served again and all to be quiet.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tests/sim/facts.h"
#include "tests/sim/plan.h"
#include "tests/sim/virtual_arbiter.h"
#include "tests/sim/virtual_memory.h"
#include "tests/sim/virtual_network.h"

namespace mesh::sim {

class Sidecar;
class SimAgent;
class SimCaller;
class SimOrder;

// One request and what became of it.
struct Ask {
  uint64_t id = 0;
  uint64_t subject = 0;  // the ask that it repeats, with the same key; or itself
  int repeats = 0;       // of that subject until now
  int executions_max = 1;
  bool has_key = false;
  bool is_durable = false;
  size_t caller = 0;
  size_t body_bytes = 0;
  size_t answer_bytes_min = 0;
  Instant asked{};     // by the clock of its host
  Instant asked_at{};  // by nobody's clock
  Duration budget{0};
  uint64_t sidecar_life = 0;  // which process of its sidecar had it
  Duration excused{0};        // its sidecar was stopped meanwhile
  int results = 0;
  int executions = 0;
  size_t executor = 0;          // the sidecar whose agent executed it, of those in `processes_`
  uint64_t lives[3] = {};       // of those, when it was asked
  bool is_given_up = false;     // by its caller, or its connection is gone: no result is owed
  bool is_result_safe = false;  // when it was asked, its subject's result had been written down
  uint64_t told_life = 0;       // of the executor, when a caller was told OK
  Instant told_at = kNever;
  uint64_t answered_as = 0;  // of all answers of agents, the first is 1
  // A sidecar that serves it had been up for so long that it was certainly connected.
  bool is_reachable = true;
  std::string code{};
  std::string fact{};    // a body that many ask alike; else empty
  Facts::Order order{};  // of what is to be given no more
};

class Simulation {
 public:
  Simulation(uint64_t seed, std::vector<Fault> faults, bool keeps_lines = false);
  ~Simulation();

  // What broke, in words; nothing if all was well. Once.
  std::vector<std::string> run();

  uint64_t trace_hash() { return network_.trace().hash(); }
  const std::vector<std::string>& lines() { return network_.trace().lines(); }
  // What was tried, so that a simulation that does nothing is noticed.
  const std::map<std::string, uint64_t>& results() const { return results_; }
  struct Seen {
    Facts::Seen facts;
    uint64_t outlived_replies = 0;  // that the disk gave to another process than had put them there
    uint64_t grants = 0;            // of memory for models
  };
  Seen seen() const;

  // --- for callers and agents ---
  VirtualNetwork& network() { return network_; }
  Ask& begin_ask(size_t caller, std::string_view service, Duration budget, size_t body_bytes, uint64_t subject = 0);
  // The whole body, which names its ask, or what is asked of a fact.
  std::string body_of(const Ask& ask) const;
  const Ask& on_result(size_t caller, uint64_t ask, std::string_view reply);
  // Has it order a purge.
  void draw_order(Ask& ask, Prng& prng);
  // Gives the subject.
  uint64_t give_up(uint64_t ask);
  // Gives the answer.
  std::string on_executed(std::string_view agent, std::string_view body);
  // An agent sends its answer.
  void on_answered(std::string_view body);
  // A caller's connection was closed from the other side.
  void on_hung_up(size_t caller, std::string_view reason);
  // An operator has written it; has its answer; has more than that; was hung up on.
  void on_order_given(SimOrder& order);
  void on_order_answered(SimOrder& order);
  void on_order_answered_again(const SimOrder& order);
  void on_order_over(const SimOrder& order);
  bool may_ask() const { return asking_; }
  // Another number for each process of a caller's sidecar.
  uint64_t life_of_home(size_t caller);

 private:
  struct Process;
  void note(std::string_view who, std::string_view what, uint64_t number = 0) {
    network_.trace().add(network_.now(), who, what, number);
  }
  Ask* find(uint64_t id) { return id > 0 && id <= asks_.size() ? &asks_[id - 1] : nullptr; }
  Ask& ask_of(uint64_t id) { return asks_[id - 1]; }
  const Ask& ask_of(uint64_t id) const { return asks_[id - 1]; }
  // Some are much larger than what was asked.
  std::string answer_to(std::string_view body) const;
  void violate(const std::string& what);
  void claim(bool holds, const std::string& otherwise) {
    if (!holds) violate(otherwise);
  }
  std::vector<std::pair<int, int>> ways_of(const Fault& fault) const;
  void begin_fault(size_t index);
  void end_fault(size_t index);
  void take_down(size_t process, bool is_drain);
  void bring_up(size_t process);
  void start_when_gone(size_t process);
  void crash_unseen(Duration period, Instant end);
  void await_drained(size_t process, uint64_t life);
  void pause(Process& process, Duration span);
  void start_arbiters();
  void change_a_fact();
  void order_now_and_then();
  void order_meanwhile(size_t fact);
  void order_a_purge(std::optional<size_t> fact);
  Process& home_of(size_t caller);
  VirtualMemory& memory_of(const Process& process);
  Process& one_of(bool is_sidecar, uint64_t which);
  bool has(Fault::Kind kind) const;
  bool is_reachable(std::string_view service);
  bool is_result_safe(const Ask& subject) const;
  bool is_peaceful() const;  // nothing happens but that processes are told to go

  // What must hold; see simulation_oracles.cc.
  void judge_result(const Ask& ask, std::string_view reply);
  bool is_crowded(const Ask& ask) const;  // it waits for a card that is too small for all
  void judge_code(const Ask& ask, std::string_view reply);
  void judge_reply(const Ask& ask, std::string_view reply);
  bool may_be_unconfirmed(Instant given) const;
  void judge_known(const Ask& ask, std::string_view reply);
  void judge_order_of_answers(const Ask& ask);
  void judge_execution(Ask& subject, std::string_view agent);
  void judge_order(const Ask& ask);
  void judge_memory(const Ask& ask, std::string_view agent);
  static bool needs_model(std::string_view service) { return service == "mind" || service == "eye"; }
  void look_behind_turn(size_t process);
  void watch();
  void run_watched(Duration span);
  void check_owed();
  void check_freed();
  void check_orders();
  void check_untouched();
  bool was_alone(size_t fault) const;
  void expect_resumed(size_t fault);
  void check_resumed(size_t fault, Instant since);
  void check_served(Instant since);
  void check_drains();
  void check_quiet();

  VirtualNetwork network_;
  Prng prng_;
  std::vector<Fault> faults_;
  VirtualMemory memory_[3];                      // of each host's sidecars
  std::unique_ptr<VirtualArbiter> arbiters_[3];  // of each host's card; null where there is none
  bool is_tight_ = false;                        // one model at a time
  std::vector<Process> processes_;
  std::vector<std::unique_ptr<SimCaller>> callers_;
  std::vector<std::unique_ptr<SimOrder>> orders_;  // the last ones
  uint64_t last_order_ = 0;
  Facts facts_;
  std::deque<Ask> asks_;  // by their ids, from 1
  std::map<std::string, uint64_t> results_;
  std::vector<std::string> violations_;
  bool asking_ = true;
  int second_site_ = 0;
  bool has_operator_ = false;
  Instant well_since_ = kNever;  // all faults are over, and what they did
  bool is_crumbly_ = false;      // bytes come one by one
  bool is_uneven_ = false;       // and each after another while
  // Of the service whose calls come to their agent, and back, in the order in which they were asked.
  uint64_t last_in_line_ = 0;                                    // that was executed
  uint64_t answered_in_line_ = 0;                                // Ask::answered_as of the last that came back
  Instant line_waited_at_{};                                     // when some waited in front of the agent
  uint64_t answers_ = 0;                                         // of all agents
  std::map<std::pair<size_t, std::string>, Instant> served_at_;  // the last OK, by sidecar of the caller and service
};

}  // namespace mesh::sim
