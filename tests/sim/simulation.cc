#include "tests/sim/simulation.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "tests/sim/process.h"
#include "tests/sim/scenery.h"
#include "tests/sim/sim_caller.h"
#include "tests/sim/sim_order.h"

namespace mesh::sim {
namespace {

// With everything up again, whoever asks is served so soon: P12. Where bytes come one by one it takes its time.
constexpr Duration kSettling = milliseconds(3000);
constexpr Duration kServed = milliseconds(3000);
constexpr Duration kSettlingOfCrumbs = milliseconds(12'000);
constexpr Duration kServedCrumbs = milliseconds(5500);  // also where large answers queue for a slow way
// Idle links close after a minute, asked every 15 s, and the last call may take its time.
constexpr Duration kQuiet = milliseconds(95'000);

std::string code_in(std::string_view reply) {
  if (!reply.starts_with(R"({"status":"error")")) return "OK";
  const size_t at = reply.find(R"("code":")");
  return at == std::string_view::npos ? "?" : std::string(reply.substr(at + 8, reply.find('"', at + 8) - at - 8));
}

uint64_t ask_in(std::string_view body) {
  uint64_t id = 0;
  if (body.starts_with("ask ")) std::from_chars(body.data() + 4, body.data() + body.size(), id);
  return id;
}

}  // namespace

Simulation::Simulation(uint64_t seed, std::vector<Fault> faults, bool keeps_lines)
    : network_(seed),
      prng_(seed ^ 0x5EED),
      faults_(std::move(faults)),
      facts_(*home_config().contracts.lookup("fact", "get").cache) {
  if (keeps_lines) network_.trace().keep_lines();
  // Bytes that come one by one take their time; then nobody asks for much.
  is_crumbly_ = prng_.below(8) == 0;
  network_.piece_bytes = is_crumbly_ ? 1 + prng_.below(200) : 2000 + prng_.below(62'000);
  network_.reads_per_turn = 1 + prng_.below(4);
  // Where nothing else happens, the connections of one process end one well after the other.
  is_uneven_ = is_peaceful() && prng_.below(2) == 0 && !is_crumbly_;
  if (is_uneven_) network_.jitter = microseconds(100 + static_cast<int64_t>(prng_.below(3000)));
  // Nobody can do anything with what another computer's clock shows.
  network_.set_clock(
      kAgentSite, network_.now() - milliseconds(900'000) + milliseconds(static_cast<int64_t>(prng_.below(1'800'000))));
  // Where the sidecars of a host share no memory, only who is told knows.
  std::array<VirtualMemory*, 3> shares{};
  for (size_t i = 0; i < shares.size(); ++i) shares[i] = prng_.below(2) == 0 ? &memory_[i] : nullptr;
  processes_.reserve(32);  // the hooks of what is in it point there
  const auto add_agent = [this](const std::string& name, int site, const std::string& where, zmtp::SocketType type) {
    Process& process = processes_.emplace_back();
    process.name = name;
    process.site = site;
    const bool computes_with_model = needs_model(name.substr(6, name.find(' ', 6) - 6));  // "agent mind 2"
    process.computes_with_model = computes_with_model;
    process.make_agent = [this, name, site, where, type, computes_with_model] {
      auto agent = std::make_unique<SimAgent>(*this, name, site, where, type);
      agent->dawdles = name.starts_with("agent fact");
      if (computes_with_model) agent->work = agent->usual_work = milliseconds(20);  // so that calls wait for it
      return agent;
    };
    process.agent = process.make_agent();
  };
  const auto add_sidecar = [this, &shares](int site, proxy::SidecarConfig config) {
    Process& process = processes_.emplace_back();
    process.name = config.host + "/" + config.sidecar;
    process.site = site;
    process.admin = "ipc://" + config.admin_path;
    for (const auto& agent : config.agents) process.services.push_back(agent.service);
    process.kept_services = kept_services(config);
    const bool leases = !config.arbiter_path.empty();
    process.sidecar = std::make_unique<Sidecar>(network_, std::move(config), site, shares[site - kHomeSite],
                                                leases ? arbiters_[site - kHomeSite].get() : nullptr);
    process.up_since = network_.now();
    const size_t index = processes_.size() - 1;
    process.sidecar->watch_turns([this, index] { look_behind_turn(index); });
  };
  // What one instance says must reach another over a way that breaks, too.
  second_site_ = prng_.below(2) == 0 ? kAgentSite : kThirdSite;
  is_tight_ = prng_.below(4) == 0;
  for (const int site : {kAgentSite, kThirdSite}) {
    arbiters_[site - kHomeSite] = std::make_unique<VirtualArbiter>(network_, site, is_tight_ ? kTightCard : kRoomyCard);
  }
  add_sidecar(kHomeSite, home_config());  // the first
  add_sidecar(kAgentSite, agents_config(false));
  add_sidecar(second_site_, agents_config(true));
  add_sidecar(kHomeSite, readers_config(prng_.below(3) == 0));
  // Where there is room for what they know and for no reply, a process finds only on its disk what the one before had.
  memory_[kAgentSite - kHomeSite].is_full = prng_.below(3) == 0;
  add_agent("agent own", kHomeSite, "a.own", zmtp::SocketType::kRep);
  add_agent("agent echo", kAgentSite, "b.echo", zmtp::SocketType::kRep);
  add_agent("agent echo 2", second_site_, "b2.echo", zmtp::SocketType::kRep);
  add_agent("agent wide", kAgentSite, "b.wide", zmtp::SocketType::kRouter);
  add_agent("agent pay", kAgentSite, "b.pay", zmtp::SocketType::kRep);
  add_agent("agent pay 2", second_site_, "b2.pay", zmtp::SocketType::kRep);
  add_agent("agent look", kAgentSite, "b.look", zmtp::SocketType::kRep);
  add_agent("agent look 2", second_site_, "b2.look", zmtp::SocketType::kRep);
  add_agent("agent fact", kAgentSite, "b.fact", zmtp::SocketType::kRep);
  add_agent("agent fact 2", second_site_, "b2.fact", zmtp::SocketType::kRep);
  add_agent("agent fact 3", kAgentSite, "b.lone", zmtp::SocketType::kRep);
  add_agent("agent line", kAgentSite, "b.line", zmtp::SocketType::kRouter);
  add_agent("agent mind", kAgentSite, "b.mind", zmtp::SocketType::kRep);
  add_agent("agent mind 2", second_site_, "b2.mind", zmtp::SocketType::kRep);
  add_agent("agent eye", kAgentSite, "b.eye", zmtp::SocketType::kRep);
  network_.run_for(milliseconds(500));
  std::vector<Habit> all = habits();
  for (Habit& habit : all) {
    if (is_crumbly_) habit.body_bytes_max = std::min<size_t>(habit.body_bytes_max, 1500);
    callers_.push_back(std::make_unique<SimCaller>(*this, callers_.size(), habit, prng_.next()));
  }
}

Simulation::~Simulation() = default;

uint64_t Simulation::give_up(uint64_t ask) {
  ask_of(ask).is_given_up = true;
  return ask_of(ask).subject;
}

Simulation::Process& Simulation::home_of(size_t caller) { return processes_[callers_[caller]->home()]; }

uint64_t Simulation::life_of_home(size_t caller) { return home_of(caller).life; }

VirtualMemory& Simulation::memory_of(const Process& process) { return memory_[process.site - kHomeSite]; }

void Simulation::violate(const std::string& what) {
  note("VIOLATION", what);
  violations_.push_back(what);
}

Simulation::Process& Simulation::one_of(bool is_sidecar, uint64_t which) {
  std::vector<Process*> chosen;
  for (Process& process : processes_) {
    if (process.is_sidecar() == is_sidecar) chosen.push_back(&process);
  }
  return *chosen[which % chosen.size()];
}

bool Simulation::has(Fault::Kind kind) const {
  return std::any_of(faults_.begin(), faults_.end(), [kind](const Fault& fault) { return fault.kind == kind; });
}

bool Simulation::is_peaceful() const {
  const auto is_drain = [](const Fault& fault) { return fault.kind == Fault::Kind::kDrain; };
  return !faults_.empty() && std::all_of(faults_.begin(), faults_.end(), is_drain);
}

// --- what callers and agents tell ---

// A peer that was gone is tried again after 2 s at the latest; one that is about to go takes nothing more.
bool Simulation::is_reachable(std::string_view service) {
  constexpr Duration kFound = milliseconds(limits::reconnect_max_ms + 300);
  return std::any_of(processes_.begin(), processes_.end(), [&](const Process& process) {
    const auto& services = process.services;
    return std::find(services.begin(), services.end(), service) != services.end() && process.sidecar->lives() &&
           process.down == 0 && network_.now() - process.up_since > kFound;
  });
}

bool Simulation::is_result_safe(const Ask& subject) const {
  if (!subject.is_durable) return false;
  const std::string answer = answer_to(body_of(subject));
  return std::any_of(processes_.begin(), processes_.end(), [&](const Process& process) {
    return process.is_sidecar() && process.sidecar->disk.results.contains(answer);
  });
}

Ask& Simulation::begin_ask(size_t caller, std::string_view service, Duration budget, size_t body_bytes,
                           uint64_t subject) {
  Process& home = home_of(caller);
  const uint64_t id = asks_.size() + 1;
  Ask& ask = asks_.emplace_back(Ask{.id = id,
                                    .subject = subject != 0 ? subject : id,
                                    .has_key = callers_[caller]->has_keys(),
                                    .is_durable = service == "pay",
                                    .caller = caller,
                                    .body_bytes = body_bytes,
                                    .asked = network_.local_now(kHomeSite),
                                    .asked_at = network_.now(),
                                    .budget = budget,
                                    .sidecar_life = home.life,
                                    .lives = {processes_[0].life, processes_[1].life, processes_[2].life},
                                    .is_reachable = is_reachable(service)});
  // It takes the other of two connections than what was asked.
  if (service == "wide" && !is_crumbly_ && ask.id % 3 == 0) ask.answer_bytes_min = limits::bulk_body_bytes + 1000;
  if (service == "look") ask.executions_max = static_cast<int>(limits::attempts_max);
  if (subject != 0) {
    ask.repeats = ++ask_of(subject).repeats;
    ask.is_result_safe = is_result_safe(ask_of(subject));
  }
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
  if (!ask.order.text.empty()) return ask.order.text;
  std::string body = "ask " + std::to_string(ask.subject) + " ";
  body.resize(std::max(body.size(), ask_of(ask.subject).body_bytes), 'x');
  return body;
}

std::string Simulation::answer_to(std::string_view body) const {
  std::string answer(body);
  const uint64_t id = ask_in(body);
  if (id > 0 && id <= asks_.size()) answer.resize(std::max(answer.size(), ask_of(id).answer_bytes_min), 'y');
  return answer;
}

std::string Simulation::on_executed(std::string_view agent, std::string_view body) {
  if (Facts::is_about_one(body)) {
    if (Facts::is_read(body)) order_meanwhile(Facts::fact_in(body));
    const std::string answer = facts_.execute(body, network_.now());
    note(agent, Facts::is_read(body) ? "is asked and says " + answer : "writes and says " + answer);
    return answer;
  }
  Ask* ask = find(ask_in(body));
  if (ask == nullptr) {
    violate(std::string(agent) + " was asked what nobody asked");
    return {};
  }
  note(agent, "works on", ask->id);
  if (body != body_of(*ask)) {
    violate(std::string(agent) + " got a body that is not what was sent, ask " + std::to_string(ask->id));
  }
  ++ask->executions;
  judge_execution(*ask, agent);
  judge_order(*ask);
  judge_memory(*ask, agent);
  return answer_to(body);
}

void Simulation::on_answered(std::string_view body) {
  if (Facts::is_about_one(body)) return facts_.on_answered(body, network_.now());
  if (Ask* ask = find(ask_in(body)); ask != nullptr) ask->answered_as = ++answers_;
}

const Ask& Simulation::on_result(size_t caller, uint64_t id, std::string_view reply) {
  Ask* known = find(id);
  if (known == nullptr) {
    static const Ask kNone{};
    violate("a reply for ask " + std::to_string(id) + ", which was never asked");
    return kNone;
  }
  Ask& ask = *known;
  ask.code = code_in(reply);
  note(callers_[caller]->name(), "gets " + ask.code + " for", id);
  ++results_[ask.code];
  ++ask.results;
  if (ask.caller != caller) violate("ask " + std::to_string(id) + " was answered to another caller");
  judge_result(ask, reply);
  if (ask.code != "OK") return ask;
  served_at_[{callers_[caller]->home(), callers_[caller]->service()}] = network_.now();
  Ask& subject = ask_of(ask.subject);
  subject.told_at = std::min(subject.told_at, network_.now());
  subject.told_life = processes_[subject.executor].life;
  return ask;
}

void Simulation::on_hung_up(size_t caller, std::string_view reason) {
  note(callers_[caller]->name(), "was hung up on");
  const Process& home = home_of(caller);
  // A sidecar that was started a moment ago may close a socket rather than guess whose answer it would take; and it
  // closes who does not read.
  const bool is_excused = reason == "ECONNRESET" || !home.sidecar->lives() || home.down > 0 ||
                          network_.now() - home.up_since < milliseconds(10'500) ||
                          callers_[caller]->was_deaf_since(network_.local_now(kHomeSite) - milliseconds(6000));
  claim(is_excused, callers_[caller]->name() + " was hung up on without a reason");
}

void Simulation::change_a_fact() {
  if (!asking_) return;
  facts_.change(prng_, network_.now());
  network_.at(network_.now() + milliseconds(50 + static_cast<int64_t>(prng_.below(400))), [this] { change_a_fact(); });
}

std::vector<std::string> Simulation::run() {
  const Instant begin = network_.now();
  Instant healed = begin + kFaultySpan;
  change_a_fact();
  has_operator_ = prng_.below(4) > 0;
  order_now_and_then();
  for (size_t i = 0; i < faults_.size(); ++i) {
    network_.at(begin + faults_[i].at, [this, i] { begin_fault(i); });
    network_.at(begin + faults_[i].at + faults_[i].lasts, [this, i] { end_fault(i); });
    Duration aftermath = aftermath_of(faults_[i]);
    // What a stuck agent has got is given up by a sidecar that runs.
    const bool holds_up = faults_[i].kind == Fault::Kind::kPauseSidecar && has(Fault::Kind::kStuckAgent);
    if (holds_up) aftermath = milliseconds(limits::agent_abandon_ms);
    healed = std::max(healed, begin + faults_[i].at + faults_[i].lasts + aftermath);
  }
  run_watched(healed - network_.now());
  run_watched(is_crumbly_ ? kSettlingOfCrumbs : kSettling);
  if (!violations_.empty()) return violations_;
  well_since_ = network_.now();
  const Instant from = network_.local_now(kHomeSite);
  run_watched(is_crumbly_ || is_uneven_ ? kServedCrumbs : kServed);
  if (!violations_.empty()) return violations_;
  check_served(from);
  asking_ = false;
  network_.run_for(kQuiet);
  if (!violations_.empty()) return violations_;
  watch();
  check_untouched();
  check_drains();
  check_quiet();
  return violations_;
}

}  // namespace mesh::sim
