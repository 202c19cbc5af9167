#include "tests/sim/simulation.h"

#include <algorithm>

#include "tests/sim/process.h"
#include "tests/sim/scenery.h"
#include "tests/sim/sim_caller.h"

namespace mesh::sim {
namespace {

// A result may come so much after its deadline: P1, and the way to the caller.
constexpr Duration kLateness = milliseconds(50);
constexpr Duration kSettling = milliseconds(12'000);
// The longest budget: the most urgent are served first, and who asks for much on a slow network waits.
constexpr Duration kServed = milliseconds(5500);
// A serial agent that never answers is given up after half a minute.
constexpr Duration kAbandoned = milliseconds(limits::agent_abandon_ms);
// Idle links close after a minute, asked every 15 s, and the last call may take its time.
constexpr Duration kQuiet = milliseconds(95'000);

std::string code_in(std::string_view reply) {
  if (!reply.starts_with(R"({"status":"error")")) return "OK";
  const size_t at = reply.find(R"("code":")");
  return at == std::string_view::npos ? "?" : std::string(reply.substr(at + 8, reply.find('"', at + 8) - at - 8));
}

uint64_t ask_in(std::string_view body) {
  return body.starts_with("ask ") ? std::stoull(std::string(body.substr(4, 20))) : 0;
}

}  // namespace

Simulation::Simulation(uint64_t seed, std::vector<Fault> faults, bool keeps_lines)
    : network_(seed), prng_(seed ^ 0x5EED), faults_(std::move(faults)) {
  if (keeps_lines) network_.trace().keep_lines();
  // Bytes that come one by one take their time; then nobody asks for much.
  is_crumbly_ = prng_.below(8) == 0;
  network_.piece_bytes = is_crumbly_ ? 1 + prng_.below(200) : 2000 + prng_.below(62'000);
  network_.reads_per_turn = 1 + prng_.below(4);
  // Where nothing else happens, the connections of one process end one well after the other.
  is_uneven_ = is_peaceful() && prng_.below(2) == 0 && !is_crumbly_;
  if (is_uneven_) network_.jitter = microseconds(100 + static_cast<int64_t>(prng_.below(3000)));
  const auto add_agent = [this](const std::string& name, int site, const std::string& where, zmtp::SocketType type) {
    Process& process = processes_.emplace_back();
    process.name = name;
    process.site = site;
    process.make_agent = [this, name, site, where, type] {
      return std::make_unique<SimAgent>(*this, name, site, where, type);
    };
    process.agent = process.make_agent();
  };
  const auto add_sidecar = [this](int site, proxy::SidecarConfig config) {
    Process& process = processes_.emplace_back();
    process.name = config.host + "/" + config.sidecar;
    process.site = site;
    for (const auto& agent : config.agents) process.services.push_back(agent.service);
    process.sidecar = std::make_unique<Sidecar>(network_, std::move(config), site, &memory_[site - kHomeSite]);
    process.up_since = network_.now();
  };
  add_sidecar(kHomeSite, home_config());  // the first
  add_sidecar(kAgentSite, agents_config(false));
  add_sidecar(kAgentSite, agents_config(true));
  add_sidecar(kHomeSite, readers_config());
  add_agent("agent own", kHomeSite, "a.own", zmtp::SocketType::kRep);
  add_agent("agent echo", kAgentSite, "b.echo", zmtp::SocketType::kRep);
  add_agent("agent echo 2", kAgentSite, "b2.echo", zmtp::SocketType::kRep);
  add_agent("agent wide", kAgentSite, "b.wide", zmtp::SocketType::kRouter);
  add_agent("agent pay", kAgentSite, "b.pay", zmtp::SocketType::kRep);
  add_agent("agent pay 2", kAgentSite, "b2.pay", zmtp::SocketType::kRep);
  add_agent("agent look", kAgentSite, "b.look", zmtp::SocketType::kRep);
  add_agent("agent look 2", kAgentSite, "b2.look", zmtp::SocketType::kRep);
  add_agent("agent fact", kAgentSite, "b.fact", zmtp::SocketType::kRep);
  add_agent("agent fact 2", kAgentSite, "b2.fact", zmtp::SocketType::kRep);
  network_.run_for(milliseconds(500));
  std::vector<Habit> all = habits();
  for (Habit& habit : all) {
    if (is_crumbly_) habit.body_bytes_max = std::min<size_t>(habit.body_bytes_max, 1500);
    callers_.push_back(std::make_unique<SimCaller>(*this, callers_.size(), habit, prng_.next()));
  }
}

Simulation::~Simulation() = default;

uint64_t Simulation::give_up(uint64_t ask) {
  asks_[ask].is_given_up = true;
  return asks_[ask].subject;
}

Simulation::Process& Simulation::home_of(size_t caller) { return processes_[callers_[caller]->home()]; }

VirtualMemory& Simulation::memory_of(const Process& process) { return memory_[process.site - kHomeSite]; }

// How often sidecars with agents were started anew.
uint64_t Simulation::agents_life() const { return processes_[1].life + processes_[2].life; }

void Simulation::claim(bool holds, const std::string& otherwise) {
  if (holds) return;
  note("VIOLATION", otherwise);
  violations_.push_back(otherwise);
}

Simulation::Process& Simulation::one_of(bool is_sidecar, uint64_t which) {
  std::vector<Process*> chosen;
  for (Process& process : processes_) {
    if (process.is_sidecar() == is_sidecar) chosen.push_back(&process);
  }
  return *chosen[which % chosen.size()];
}

// --- what callers and agents tell ---

// A peer that was gone is tried again after 2 s at the latest.
bool Simulation::is_reachable(std::string_view service) {
  constexpr Duration kFound = milliseconds(limits::reconnect_max_ms + 300);
  return std::any_of(processes_.begin(), processes_.end(), [&](const Process& process) {
    const auto& services = process.services;
    return std::find(services.begin(), services.end(), service) != services.end() && process.sidecar->lives() &&
           network_.now() - process.up_since > kFound;
  });
}

Ask& Simulation::begin_ask(size_t caller, std::string_view service, Duration budget, size_t body_bytes,
                           uint64_t subject) {
  Process& home = home_of(caller);
  Ask& ask = asks_[++last_ask_];
  ask = {.id = last_ask_,
         .subject = subject != 0 ? subject : last_ask_,
         .agents_life = agents_life(),
         .is_durable = service == "pay",
         .caller = caller,
         .body_bytes = body_bytes,
         .asked = network_.local_now(kHomeSite),
         .asked_at = network_.now(),
         .budget = budget,
         .is_reachable = is_reachable(service)};
  // It takes the other of two connections than what was asked.
  if (service == "wide" && !is_crumbly_ && ask.id % 3 == 0) ask.answer_bytes_min = limits::bulk_body_bytes + 1000;
  if (service == "look") ask.executions_max = static_cast<int>(limits::attempts_max);
  if (subject != 0) ask.repeats = ++asks_[subject].repeats;
  ask.sidecar_life = home.life;
  if (VirtualHost* host = home.host(); host != nullptr && host->is_paused()) ask.excused = host->pause_left();
  // The way to the sidecar and back is no time of its own: piece by piece, of a random size, the answer an error's.
  constexpr size_t kErrorBytes = 1000;
  ask.excused += microseconds(
      static_cast<int64_t>(70 * 4 * (body_bytes + ask.answer_bytes_min + kErrorBytes) / network_.piece_bytes));
  note(callers_[caller]->name(), "asks", ask.id);
  return ask;
}

std::string Simulation::body_of(const Ask& ask) const {
  if (!ask.fact.empty()) return ask.fact;
  std::string body = "ask " + std::to_string(ask.subject) + " ";
  body.resize(std::max(body.size(), asks_.at(ask.subject).body_bytes), 'x');
  return body;
}

std::string Simulation::answer_to(std::string_view body) const {
  std::string answer(body);
  const auto at = asks_.find(ask_in(body));
  if (at != asks_.end()) answer.resize(std::max(answer.size(), at->second.answer_bytes_min), 'y');
  return answer;
}

std::string Simulation::on_executed(std::string_view agent, std::string_view body) {
  if (Facts::is_about_one(body)) return facts_.execute(body, network_.now());
  const auto at = asks_.find(ask_in(body));
  if (at == asks_.end()) {
    claim(false, std::string(agent) + " was asked what nobody asked");
    return {};
  }
  Ask& ask = at->second;
  note(agent, "works on", ask.id);
  claim(body == body_of(ask),
        std::string(agent) + " got a body that is not what was sent, ask " + std::to_string(ask.id));
  ++ask.executions;
  judge_execution(ask);
  return answer_to(body);
}

// At most once; a key that is kept in memory only holds as long as the sidecar lives that keeps it.
void Simulation::judge_execution(const Ask& subject) {
  uint64_t executions_max = static_cast<uint64_t>(subject.executions_max);
  if (subject.repeats > 0 && !subject.is_durable) executions_max += agents_life() - subject.agents_life;
  claim(static_cast<uint64_t>(subject.executions) <= executions_max,
        "ask " + std::to_string(subject.id) + " was executed " + std::to_string(subject.executions) + " times");
}

const Ask& Simulation::on_result(size_t caller, uint64_t id, std::string_view reply) {
  const std::string name = "ask " + std::to_string(id);
  const auto at = asks_.find(id);
  if (at == asks_.end()) {
    claim(false, "a reply for " + name + ", which was never asked");
    return asks_[id];
  }
  Ask& ask = at->second;
  ask.code = code_in(reply);
  note(callers_[caller]->name(), "gets " + ask.code + " for", id);
  ++results_[ask.code];
  claim(ask.caller == caller, name + " was answered to another caller");
  claim(++ask.results == 1, name + " got a second result: " + ask.code);
  if (ask.code == "OK") {
    judge_reply(ask, reply);
  }
  // Who does not read finds its result when it does.
  if (ask.is_given_up || callers_[caller]->was_deaf_since(ask.asked)) return ask;
  const Duration took = network_.local_now(kHomeSite) - ask.asked;
  claim(took <= ask.budget + kLateness + ask.excused, name + " had " + std::to_string(to_us(ask.budget) / 1000) +
                                                          " ms and got " + ask.code + " after " +
                                                          std::to_string(to_us(took) / 1000) + " ms");
  return ask;
}

void Simulation::judge_reply(const Ask& ask, std::string_view reply) {
  const std::string name = "ask " + std::to_string(ask.id);
  if (!ask.fact.empty()) {
    const std::string problem = facts_.judge(ask.fact, reply, ask.asked_at);
    claim(problem.empty(), name + " " + problem);
    if (!ask.is_given_up) facts_.acknowledge(ask.fact, reply, network_.now());
    return;
  }
  claim(reply == answer_to(body_of(ask)), name + " got a reply to something else");
  claim(asks_.at(ask.subject).executions > 0, name + " was answered without being executed");
}

void Simulation::on_hung_up(size_t caller) {
  note(callers_[caller]->name(), "was hung up on");
  const Process& home = home_of(caller);
  // A sidecar that was started a moment ago may close a socket rather than guess whose answer it would take; and it
  // closes who does not read.
  const bool is_excused = !home.sidecar->lives() || home.down > 0 ||
                          network_.now() - home.up_since < milliseconds(10'500) ||
                          callers_[caller]->was_deaf_since(network_.local_now(kHomeSite) - milliseconds(6000));
  claim(is_excused, callers_[caller]->name() + " was hung up on without a reason");
}

// --- what must hold ---

// Limits and books, of every process that lives.
void Simulation::watch() {
  for (Process& process : processes_) {
    if (!process.is_sidecar() || !process.sidecar->lives()) continue;
    proxy::Engine& engine = process.sidecar->driver().engine();
    const std::string problem = engine.audit();
    claim(problem.empty(), process.name + ": " + problem);
    claim(engine.outbound().held_bytes() <= kQueuedBytesMax, process.name + " holds more than it may");
    claim(engine.inbound().queued_bytes() <= kQueuedBytesMax, process.name + " has queued more than it may");
  }
}

void Simulation::change_a_fact() {
  if (!asking_) return;
  facts_.change(prng_, network_.now());
  network_.at(network_.now() + milliseconds(50 + static_cast<int64_t>(prng_.below(400))), [this] { change_a_fact(); });
}

// Every ask of which a result is owed by now has one.
void Simulation::check_owed() {
  for (const auto& [id, ask] : asks_) {
    if (ask.results > 0 || ask.is_given_up || ask.sidecar_life != home_of(ask.caller).life) continue;
    const bool is_due = network_.local_now(kHomeSite) - ask.asked > ask.budget + kLateness + ask.excused;
    claim(!is_due, "ask " + std::to_string(id) + " of " + callers_[ask.caller]->name() + " never got a result");
  }
  for (const auto& [id, ask] : asks_) {
    const bool is_untouched =
        ask.code == "NOT_SENT" || ask.code == "OVERLOADED" || ask.code == "DRAINING" || ask.code == "NO_ROUTE";
    // Of several with the same key another one may have been executed.
    const bool is_alone = ask.subject == ask.id && ask.repeats == 0;
    claim(!is_untouched || !is_alone || ask.executions == 0,
          "ask " + std::to_string(id) + " got " + ask.code + " and was executed");
  }
}

void Simulation::check_quiet() {
  size_t agents = 0;
  for (Process& process : processes_) {
    if (!process.is_sidecar()) ++agents;
    if (process.is_sidecar())
      claim(process.sidecar->driver().engine().idle(), process.name + " has open calls when all is quiet");
  }
  const size_t expected = 2 * (agents + callers_.size());
  claim(network_.open_streams() == expected, std::to_string(network_.open_streams()) +
                                                 " ends of connections are open when all is quiet, not " +
                                                 std::to_string(expected));
}

void Simulation::check_served(Instant since) {
  std::vector<bool> is_served(callers_.size(), false);
  for (const auto& [id, ask] : asks_) {
    if (ask.asked >= since && ask.code == "OK") is_served[ask.caller] = true;
  }
  for (size_t i = 0; i < callers_.size(); ++i) {
    // A patient REQ whose request was lost with its connection waits for good: that is what a REQ socket does.
    const std::vector<uint64_t>& waits_for = callers_[i]->outstanding();
    const bool is_stuck = !waits_for.empty() && asks_[waits_for.front()].is_given_up;
    claim(is_served[i] || is_stuck, callers_[i]->name() + " is not served although all is well again");
  }
}

bool Simulation::is_peaceful() const {
  const auto is_drain = [](const Fault& fault) { return fault.kind == Fault::Kind::kDrain; };
  return !faults_.empty() && std::all_of(faults_.begin(), faults_.end(), is_drain);
}

// Who goes in peace loses nothing.
void Simulation::check_drains() {
  if (!is_peaceful()) return;
  for (const auto& [id, ask] : asks_) {
    // What was not read when its sidecar went, the next one answers as well as it can.
    if (ask.is_given_up) continue;
    // Where bytes or disks crawl, or the budget is small, the time can be up without anybody's fault.
    const bool is_late =
        ask.code == "DEADLINE" && ask.is_reachable && !ask.is_durable && ask.budget >= milliseconds(1000);
    const bool is_lost = ask.code == "OUTCOME_UNKNOWN" || (is_late && !is_crumbly_ && !is_uneven_);
    claim(!is_lost, "ask " + std::to_string(id) + " got " + ask.code + " because a sidecar was drained");
  }
}

std::vector<std::string> Simulation::run() {
  const Instant begin = network_.now();
  Instant healed = begin + kFaultySpan;
  change_a_fact();
  for (size_t i = 0; i < faults_.size(); ++i) {
    network_.at(begin + faults_[i].at, [this, i] { begin_fault(i); });
    network_.at(begin + faults_[i].at + faults_[i].lasts, [this, i] { end_fault(i); });
    const Duration aftermath = faults_[i].kind == Fault::Kind::kStuckAgent ? kAbandoned : Duration{0};
    healed = std::max(healed, begin + faults_[i].at + faults_[i].lasts + aftermath);
  }
  while (network_.now() < healed && violations_.empty()) {
    network_.run_for(milliseconds(50));
    watch();
  }
  // Liveness: with everything up again, whoever asks is served.
  network_.run_for(kSettling);
  if (violations_.empty()) {
    const Instant from = network_.local_now(kHomeSite);
    network_.run_for(kServed);
    check_served(from);
  }
  asking_ = false;
  network_.run_for(kQuiet);
  watch();
  check_owed();
  check_drains();
  if (violations_.empty()) check_quiet();
  return violations_;
}

}  // namespace mesh::sim
