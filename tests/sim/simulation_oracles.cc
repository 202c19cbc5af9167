// What must hold, whatever happens; each of it is judged as soon as it can be.

#include <algorithm>
#include <set>

#include "common/base/model_key.h"
#include "common/gpu/bounds.h"
#include "tests/sim/process.h"
#include "tests/sim/scenery.h"
#include "tests/sim/sim_caller.h"
#include "tests/sim/simulation.h"

namespace mesh::sim {
namespace {

// A result may come so much after its deadline: P1, and the way to the caller.
constexpr Duration kLateness = milliseconds(50);
// A REQ socket whose sidecar died is freed so soon after the restart: P1.
constexpr Duration kFreed = milliseconds(3000);
// Traffic resumes so soon after what stood in its way is gone: P11 and P12, by a clock that is 5 % slow.
constexpr Duration kResumed = milliseconds(3150);
constexpr Duration kWatchStep = milliseconds(20);
// A commit takes up to 400 ms, and the next waits for it: twice for the intent, and twice for the result.
constexpr Duration kDurableTakes = milliseconds(1700);
constexpr Duration kCrumbsTake = milliseconds(500);

// Of an error as its caller sees it.
std::string_view field_in(std::string_view reply, std::string_view name) {
  const std::string before = "\"" + std::string(name) + "\":\"";
  const size_t at = reply.find(before);
  if (at == std::string_view::npos) return {};
  const size_t begin = at + before.size();
  return reply.substr(begin, reply.find('"', begin) - begin);
}

// Whether it is a fault at all for those who behave.
bool hurts(const Fault& fault) { return fault.kind != Fault::Kind::kWallClock && fault.kind != Fault::Kind::kDrift; }

// Also of who is so slow that he is taken for dead.
bool breaks_connections(const Fault& fault) {
  switch (fault.kind) {
    case Fault::Kind::kDelay:
    case Fault::Kind::kSlowAgent:
    case Fault::Kind::kDiskFull:
    case Fault::Kind::kCrashArbiter:
      return false;
    default:
      return hurts(fault);
  }
}

}  // namespace

Duration aftermath_of(const Fault& fault) {
  switch (fault.kind) {
    case Fault::Kind::kStuckAgent:
      return milliseconds(limits::agent_abandon_ms);
    case Fault::Kind::kSlowAgent:
    case Fault::Kind::kCrashLoop:
      return milliseconds(fault.amount);
    case Fault::Kind::kCrashArbiter:  // the next one waits for those who hold something
    case Fault::Kind::kPowerCut:
      return milliseconds(gpu::bounds::reconcile_ms + 500);
    case Fault::Kind::kDrain:
      return milliseconds(limits::drain_ms + 1000);
    case Fault::Kind::kCallerReset:
    case Fault::Kind::kSlowReader:
      return SimCaller::kLostPatience;
    default:
      return Duration{0};
  }
}

// --- of a result ---

void Simulation::judge_result(const Ask& ask, std::string_view reply) {
  const auto name = [&] { return "ask " + std::to_string(ask.id); };
  if (ask.results > 1) violate(name() + " got a second result: " + ask.code);
  judge_code(ask, reply);
  judge_known(ask, reply);
  if (ask.code == "OK") judge_reply(ask, reply);
  if (ask.is_given_up && callers_[ask.caller]->is_req() && ask.code != "OUTCOME_UNKNOWN") {
    violate(name() + " was answered on another connection with " + ask.code);
  }
  // Who does not read finds its result when it does.
  if (ask.is_given_up || callers_[ask.caller]->was_deaf_since(ask.asked)) return;
  const Duration took = network_.local_now(kHomeSite) - ask.asked;
  if (took > ask.budget + kLateness + ask.excused) {
    violate(name() + " had " + std::to_string(to_us(ask.budget) / 1000) + " ms and got " + ask.code + " after " +
            std::to_string(to_us(took) / 1000) + " ms");
  }
}

bool Simulation::is_crowded(const Ask& ask) const { return is_tight_ && needs_model(callers_[ask.caller]->service()); }

// Nothing but what the faults give a reason for; and with none everything goes well, but for what has too little time
// for a slow disk.
void Simulation::judge_code(const Ask& ask, std::string_view reply) {
  using Kind = Fault::Kind;
  const std::string& code = ask.code;
  if (code == "OK") return;
  const bool is_hurt = std::any_of(faults_.begin(), faults_.end(), hurts);
  bool has_reason = false;
  // Where bytes come one by one, a moment is too short.
  const bool is_hurried = is_crumbly_ && ask.budget < kCrumbsTake;
  if (code == "DEADLINE") has_reason = is_hurt || is_hurried || (ask.is_durable && ask.budget < kDurableTakes);
  if (code == "NOT_SENT" || code == "OUTCOME_UNKNOWN") {
    // Bytes that come one by one, and late, come too late for a heartbeat.
    has_reason = std::any_of(faults_.begin(), faults_.end(), breaks_connections) || (is_crumbly_ && has(Kind::kDelay));
  }
  if (!ask.order.text.empty()) {
    has_reason = code == "OUTCOME_UNKNOWN" && may_be_unconfirmed(ask.asked_at);
  }
  // Others use the card for as long as they do.
  if (is_crowded(ask) && code == "DEADLINE") has_reason = true;
  // One large body may be nearly all that an instance takes, and that a process holds.
  if (code == "OVERLOADED") {
    has_reason = is_hurt || callers_[ask.caller]->service() == "wide" || field_in(reply, "rule") == "memory";
  }
  if (code == "DRAINING") has_reason = has(Kind::kDrain);
  if (code == "STORAGE") has_reason = has(Kind::kDiskFull) && ask.is_durable;
  if (!has_reason) violate("ask " + std::to_string(ask.id) + " got " + code + ", for which there is no reason");
}

void Simulation::judge_reply(const Ask& ask, std::string_view reply) {
  const std::string name = "ask " + std::to_string(ask.id);
  if (!ask.order.text.empty()) {
    claim(reply.find(R"("purged":)") != std::string_view::npos, name + " got a reply to something else");
    return facts_.acknowledge(ask.order, network_.now());
  }
  if (!ask.fact.empty()) {
    const std::string problem = facts_.judge(ask.fact, reply, ask.asked_at);
    if (!problem.empty()) violate(name + " about fact " + std::to_string(Facts::fact_in(ask.fact)) + " " + problem);
    if (!ask.is_given_up) facts_.acknowledge(ask.fact, reply, network_.now());
    return;
  }
  claim(reply == answer_to(body_of(ask)), name + " got a reply to something else");
  claim(ask_of(ask.subject).executions > 0, name + " was answered without being executed");
  claim(!ask.is_durable || is_result_safe(ask), name + " was answered before its result was on disk");
  judge_order_of_answers(ask);
}

// Whose result was known when he asked again is told it, or that it could not be asked for; and nobody executes
// anything.
void Simulation::judge_known(const Ask& ask, std::string_view reply) {
  const Ask& subject = ask_of(ask.subject);
  const bool is_in_memory =
      ask.has_key && subject.told_at < ask.asked_at && subject.told_life == processes_[subject.executor].life;
  if (ask.code == "OK" || ask.code == "OVERLOADED" || (!ask.is_result_safe && !is_in_memory)) return;
  const std::string_view stage = field_in(reply, "stage");
  if (stage != "idempotency" && stage != "agent") return;
  violate("ask " + std::to_string(ask.id) + " got " + ask.code + " by the rule " +
          std::string(field_in(reply, "rule")) + " although its result was known");
}

// --- of an execution ---

// At most once; a key that is kept in memory only holds as long as the sidecar lives that keeps it.
void Simulation::judge_execution(Ask& subject, std::string_view agent) {
  const std::string name = "ask " + std::to_string(subject.id);
  const size_t executor = agent == "agent own" ? 0 : agent.ends_with(" 2") ? 2 : 1;
  if (subject.has_key && subject.executions > 1) {
    claim(executor == subject.executor, name + " was executed at two places, and has a key");
  }
  subject.executor = executor;
  uint64_t executions_max = static_cast<uint64_t>(subject.executions_max);
  if (subject.has_key && !subject.is_durable) executions_max += processes_[executor].life - subject.lives[executor];
  claim(static_cast<uint64_t>(subject.executions) <= executions_max,
        name + " was executed " + std::to_string(subject.executions) + " times");
}

// P5: what goes one way comes in the order in which it was asked. Not so what waited in front of the agent, whose order
// is another; and what was given up may still be under way on a connection that is no more.
void Simulation::judge_order(const Ask& ask) {
  const SimCaller& caller = *callers_[ask.caller];
  if (caller.service() != "line") return;
  const bool is_excused =
      ask.asked_at <= line_waited_at_ || ask.results > 0 || ask.is_given_up || caller.was_deaf_since(ask.asked);
  claim(ask.id > last_in_line_ || is_excused, "ask " + std::to_string(ask.id) + " came to its agent after ask " +
                                                  std::to_string(last_in_line_) + ", which was asked later");
  last_in_line_ = std::max(last_in_line_, ask.id);
}

void Simulation::judge_order_of_answers(const Ask& ask) {
  if (callers_[ask.caller]->service() != "line") return;
  claim(ask.answered_as > answered_in_line_,
        "the answer to ask " + std::to_string(ask.id) + " was overtaken on its way back");
  answered_in_line_ = ask.answered_as;
}

// An agent computes with a model only while its sidecar has memory for it, and for no process before it. Whose sidecar
// died, and may have another by now, does not know that.
void Simulation::judge_memory(const Ask& ask, std::string_view agent) {
  const std::string& service = callers_[ask.caller]->service();
  if (!needs_model(service)) return;
  const Process& sidecar = processes_[agent.ends_with(" 2") ? 2 : 1];
  if (!sidecar.sidecar->lives() || sidecar.up_since > ask.asked_at) return;
  const auto is_it = [agent](const Process& process) { return process.name == agent; };
  const auto user = std::find_if(processes_.begin(), processes_.end(), is_it);
  claim(sidecar.sidecar->channel()->has(model_key(service), user->agent->host().pid()),
        "ask " + std::to_string(ask.id) + " is computed by " + std::string(agent) + " without memory for its model");
}

// --- of processes ---

// Behind each turn of each sidecar: cheap.
void Simulation::look_behind_turn(size_t index) {
  Process& process = processes_[index];
  if (!process.sidecar->lives()) return;
  proxy::Engine& engine = process.sidecar->driver().engine();
  if (engine.outbound().held_bytes() > kQueuedBytesMax) violate(process.name + " holds more than it may");
  if (engine.inbound().queued_bytes() > kQueuedBytesMax) violate(process.name + " has queued more than it may");
  const auto agents = static_cast<proxy::AgentIndex>(process.services.size());
  for (proxy::AgentIndex agent = 0; agent < agents; ++agent) {
    const proxy::Inbound::AgentView view = engine.inbound().view(agent);
    if (view.working + view.queued > kCallsPerTargetMax) violate(process.name + " has too many calls for one agent");
    if (view.queued > 0 && process.services[agent] == "line") line_waited_at_ = network_.now();
  }
  for (proxy::ServiceIndex s = 0; s < engine.services().size(); ++s) {
    for (const proxy::Instance& instance : engine.services()[s].instances) {
      const bool is_too_much = instance.in_flight > kCallsPerTargetMax || instance.bytes_in_flight > kBytesPerTargetMax;
      if (is_too_much && !instance.local) violate(process.name + " has more under way to one peer than it may");
    }
  }
}

// Books, the limits that take a look at every call, and debts.
void Simulation::watch() {
  for (Process& process : processes_) {
    if (!process.is_sidecar() || !process.sidecar->lives()) continue;
    const std::string problem = process.sidecar->driver().engine().audit();
    claim(problem.empty(), process.name + ": " + problem);
  }
  for (const auto& arbiter : arbiters_) {
    const std::string problem = arbiter != nullptr ? arbiter->audit() : "";
    claim(problem.empty(), problem);
  }
  check_owed();
  check_freed();
  check_orders();
}

void Simulation::run_watched(Duration span) {
  const Instant end = network_.now() + span;
  while (network_.now() < end && violations_.empty()) {
    network_.run_for(kWatchStep);
    watch();
  }
}

// Every ask of which a result is owed by now has one. A deaf caller has it and does not read it.
void Simulation::check_owed() {
  const Instant now = network_.local_now(kHomeSite);
  for (const auto& caller : callers_) {
    for (const uint64_t id : caller->outstanding()) {
      const Ask& ask = ask_of(id);
      if (ask.is_given_up || ask.results > 0 || ask.sidecar_life != home_of(ask.caller).life) continue;
      if (now - ask.asked <= ask.budget + kLateness + ask.excused || caller->was_deaf_since(ask.asked)) continue;
      violate("ask " + std::to_string(id) + " of " + caller->name() + " is owed a result and has none");
    }
  }
}

// A REQ socket that waits for the answer of a process that is no more is told so by the next one.
void Simulation::check_freed() {
  for (const auto& caller : callers_) {
    const Process& home = processes_[caller->home()];
    if (!caller->is_req() || caller->is_lost() || caller->outstanding().empty()) continue;
    const Ask& ask = ask_of(caller->outstanding().front());
    if (!ask.is_given_up || home.down > 0 || !home.sidecar->lives()) continue;
    if (network_.now() - std::max(home.up_since, home.went_on_at) <= kFreed) continue;
    if (caller->was_deaf_since(network_.local_now(kHomeSite) - kFreed)) continue;
    violate(caller->name() + " still waits for ask " + std::to_string(ask.id) + ", 3 s after its sidecar came back");
  }
}

// Who was told that no agent had it, was told the truth.
void Simulation::check_untouched() {
  for (const Ask& ask : asks_) {
    const bool is_untouched =
        ask.code == "NOT_SENT" || ask.code == "OVERLOADED" || ask.code == "DRAINING" || ask.code == "NO_ROUTE";
    // Of several with the same key another one may have been executed.
    const bool is_alone = ask.subject == ask.id && ask.repeats == 0;
    if (is_untouched && is_alone && ask.executions > 0) {
      violate("ask " + std::to_string(ask.id) + " got " + ask.code + " and was executed");
    }
  }
}

// --- of what comes after a fault ---

// Nothing else stands in the way when it is over, and for as long as it may take until all is well.
bool Simulation::was_alone(size_t index) const {
  const Duration over = faults_[index].at + faults_[index].lasts;
  for (size_t i = 0; i < faults_.size(); ++i) {
    const Fault& other = faults_[i];
    if (i == index || !hurts(other)) continue;
    if (other.at < over + kResumed && other.at + other.lasts + aftermath_of(other) >= over) {
      return false;
    }
  }
  return true;
}

void Simulation::expect_resumed(size_t index) {
  using Kind = Fault::Kind;
  switch (faults_[index].kind) {
    case Kind::kReset:
    case Kind::kAgentReset:
    case Kind::kPartition:
    case Kind::kOneWay:
    case Kind::kOneWayBack:
    case Kind::kCrashSidecar:
    case Kind::kCrashAgent:
    case Kind::kRestartAgents:
    case Kind::kPowerCut:
    case Kind::kPauseSidecar:
    case Kind::kPauseAgent:
      break;
    default:
      return;
  }
  if (is_crumbly_ || !was_alone(index)) return;
  const Instant since = network_.now();
  network_.at(since + kResumed, [this, index, since] { check_resumed(index, since); });
}

void Simulation::check_resumed(size_t index, Instant since) {
  std::set<std::pair<size_t, std::string>> routes;
  for (const auto& caller : callers_) routes.emplace(caller->home(), caller->service());
  for (const auto& route : routes) {
    if (is_tight_ && needs_model(route.second)) continue;
    claim(served_at_[route] > since, route.second + " is not served for " + processes_[route.first].name +
                                         " 3 s after " + std::string(to_string(faults_[index].kind)));
  }
}

void Simulation::check_served(Instant since) {
  std::vector<bool> is_served(callers_.size(), false);
  for (const Ask& ask : asks_) {
    if (ask.asked >= since && ask.code == "OK") is_served[ask.caller] = true;
  }
  for (size_t i = 0; i < callers_.size(); ++i) {
    if (is_tight_ && needs_model(callers_[i]->service())) continue;
    claim(is_served[i], callers_[i]->name() + " is not served although all is well again");
  }
}

// Who goes in peace loses nothing.
void Simulation::check_drains() {
  if (!is_peaceful()) return;
  for (const Ask& ask : asks_) {
    // What was not read when its sidecar went, the next one answers as well as it can.
    if (ask.is_given_up || !ask.order.text.empty()) continue;
    // Where bytes or disks crawl, or the budget is small, the time can be up without anybody's fault; and a writer
    // waits a second for who may keep what the process before gave.
    const bool is_write = !ask.fact.empty() && !Facts::is_read(ask.fact);
    const bool is_late = ask.code == "DEADLINE" && ask.is_reachable && !ask.is_durable && !is_write &&
                         !is_crowded(ask) && ask.budget >= milliseconds(1000);
    const bool is_lost = ask.code == "OUTCOME_UNKNOWN" || (is_late && !is_crumbly_ && !is_uneven_);
    claim(!is_lost, "ask " + std::to_string(ask.id) + " got " + ask.code + " because a sidecar was drained");
  }
}

void Simulation::check_quiet() {
  size_t agents = 0;
  for (Process& process : processes_) {
    if (!process.is_sidecar()) ++agents;
    if (process.is_sidecar())
      claim(process.sidecar->driver().engine().idle(), process.name + " has open calls when all is quiet");
  }
  for (const auto& arbiter : arbiters_) {
    const std::string unrest = arbiter != nullptr ? arbiter->unrest() : "";
    claim(unrest.empty(), "memory of a card is not free when all is quiet: " + unrest);
  }
  const size_t expected = 2 * (agents + callers_.size());
  claim(network_.open_streams() == expected, std::to_string(network_.open_streams()) +
                                                 " ends of connections are open when all is quiet, not " +
                                                 std::to_string(expected));
}

}  // namespace mesh::sim
