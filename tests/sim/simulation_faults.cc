// How faults come and go.

#include "tests/sim/process.h"
#include "tests/sim/sim_caller.h"
#include "tests/sim/sim_order.h"
#include "tests/sim/simulation.h"

namespace mesh::sim {

// --- faults ---

void Simulation::take_down(size_t index, bool is_drain) {
  Process& process = processes_[index];
  const bool is_there = process.down == 0 || (process.is_sidecar() && process.sidecar->lives() && !is_drain);
  ++process.down;
  if (!is_there) return;
  check_owed();
  ++process.life;
  note(process.name, is_drain ? "drains" : "is killed");
  if (is_drain && process.is_sidecar()) {
    --process.life;
    process.sidecar->drain();
    return await_drained(index, process.life);
  }
  if (process.is_sidecar()) {
    process.sidecar->kill();
  } else {
    process.agent.reset();
  }
}

void Simulation::await_drained(size_t index, uint64_t life) {
  network_.at(network_.now() + microseconds(100), [this, index, life] {
    Process& process = processes_[index];
    if (process.life != life || !process.sidecar->lives()) return;
    if (!process.sidecar->drained) return await_drained(index, life);
    note(process.name, "has drained");
    check_owed();
    ++process.life;
    process.sidecar->kill();
  });
}

void Simulation::bring_up(size_t index) {
  Process& process = processes_[index];
  if (--process.down == 0) start_when_gone(index);
}

// One that drains is given its time.
void Simulation::start_when_gone(size_t index) {
  Process& process = processes_[index];
  if (process.down > 0) return;
  if (process.is_sidecar() && process.sidecar->lives()) {
    network_.at(network_.now() + milliseconds(1), [this, index] { start_when_gone(index); });
    return;
  }
  note(process.name, "starts");
  if (process.is_sidecar()) {
    process.sidecar->drained = false;
    process.sidecar->start();
    process.up_since = network_.now();
  } else {
    process.agent = process.make_agent();
  }
}

void Simulation::pause(Process& process, Duration span) {
  if (process.host() == nullptr || process.host()->is_paused()) return;
  process.host()->pause_until(network_.now() + span);
  process.went_on_at = network_.now() + span;
  for (const auto& order : orders_) {
    if (&process == &processes_[order->sidecar]) order->excused += process.host()->pause_left();
  }
  for (const auto& caller : callers_) {
    if (&process != &processes_[caller->home()]) continue;
    for (const uint64_t id : caller->outstanding()) ask_of(id).excused += process.host()->pause_left();
  }
}

// The callers' sidecar, again and again. Its old connections stay open at the other end, beside those of the next
// process.
void Simulation::crash_unseen(Duration period, Instant end) {
  if (network_.now() >= end) return;
  if (processes_[0].down == 0 && processes_[0].sidecar->lives()) {
    network_.set_dark(kHomeSite, true);
    take_down(0, false);
    network_.set_dark(kHomeSite, false);
    bring_up(0);
  }
  network_.at(network_.now() + period, [this, period, end] { crash_unseen(period, end); });
}

// Those that no fault keeps down.
void Simulation::start_arbiters() {
  for (const auto& arbiter : arbiters_) {
    if (arbiter != nullptr && !arbiter->lives()) arbiter->start();
  }
}

// Between which sites nothing passes.
std::vector<std::pair<int, int>> Simulation::ways_of(const Fault& fault) const {
  if (second_site_ == kAgentSite) return {{kHomeSite, kAgentSite}};
  switch (fault.which % 3) {
    case 0:
      return {{kHomeSite, kAgentSite}, {kHomeSite, kThirdSite}};
    case 1:
      return {{kHomeSite, kAgentSite}};
    default:
      return {{kAgentSite, kThirdSite}};
  }
}

void Simulation::begin_fault(size_t index) {
  const Fault& fault = faults_[index];
  note("fault", to_string(fault), index + 1);
  const auto index_of = [this](const Process& process) { return static_cast<size_t>(&process - processes_.data()); };
  switch (fault.kind) {
    case Fault::Kind::kDelay:
      network_.delay = milliseconds(fault.amount);
      network_.jitter = milliseconds(1 + fault.amount / 2);
      break;
    case Fault::Kind::kReset:
      network_.reset_one([](const VirtualHost& from, const VirtualHost& to) { return from.site() != to.site(); },
                         fault.which);
      break;
    case Fault::Kind::kAgentReset:
      network_.reset_one([](const VirtualHost& from, const VirtualHost&) { return from.name().starts_with("agent"); },
                         fault.which);
      break;
    case Fault::Kind::kCallerReset:
      network_.reset_one([](const VirtualHost& from, const VirtualHost&) { return from.name().starts_with("caller"); },
                         fault.which);
      break;
    case Fault::Kind::kPartition:
      for (const auto& [from, to] : ways_of(fault)) network_.cut.insert({{from, to}, {to, from}});
      break;
    case Fault::Kind::kOneWay:
      for (const auto& way : ways_of(fault)) network_.cut.insert(way);
      break;
    case Fault::Kind::kOneWayBack:
      for (const auto& [from, to] : ways_of(fault)) network_.cut.insert({to, from});
      break;
    case Fault::Kind::kCrashSidecar:
      take_down(index_of(one_of(true, fault.which)), false);
      break;
    case Fault::Kind::kCrashAgent:
      take_down(index_of(one_of(false, fault.which)), false);
      break;
    case Fault::Kind::kPowerCut:
      network_.set_dark(kAgentSite, true);
      for (size_t i = 0; i < processes_.size(); ++i) {
        if (processes_[i].site == kAgentSite) take_down(i, false);
      }
      std::erase_if(orders_, [this](const auto& order) { return processes_[order->sidecar].site == kAgentSite; });
      memory_[kAgentSite - kHomeSite].forget();
      arbiters_[kAgentSite - kHomeSite]->kill();
      arbiters_[kAgentSite - kHomeSite]->forget();
      break;
    case Fault::Kind::kPauseSidecar:
      pause(one_of(true, fault.which), fault.lasts);
      break;
    case Fault::Kind::kPauseAgent:
      pause(one_of(false, fault.which), fault.lasts);
      break;
    case Fault::Kind::kStuckAgent:
      if (auto& agent = one_of(false, fault.which).agent) agent->is_stuck = true;
      break;
    case Fault::Kind::kSlowAgent:
      if (auto& agent = one_of(false, fault.which).agent) agent->work = milliseconds(fault.amount);
      break;
    case Fault::Kind::kSlowReader:
      callers_[fault.which % callers_.size()]->set_reading(false);
      break;
    case Fault::Kind::kDrift:
      network_.set_drift(fault.which % 2 == 0 ? kHomeSite : kAgentSite, fault.amount);
      break;
    case Fault::Kind::kNarrow:
      network_.window_bytes = static_cast<size_t>(fault.amount);
      break;
    case Fault::Kind::kDrain:
      take_down(index_of(one_of(true, fault.which)), true);
      break;
    case Fault::Kind::kCrashLoop:
      for (Process& process : processes_) {
        if (process.agent) process.agent->work = milliseconds(fault.amount);
      }
      crash_unseen(milliseconds(fault.amount), network_.now() + fault.lasts);
      break;
    case Fault::Kind::kDiskFull:
      one_of(true, fault.which).sidecar->disk.is_full = true;
      memory_of(one_of(true, fault.which)).is_full = true;
      break;
    case Fault::Kind::kRestartAgents:
      for (size_t i = 0; i < processes_.size(); ++i) {
        if (processes_[i].computes_with_model) take_down(i, false);
      }
      break;
    case Fault::Kind::kCrashArbiter:
      for (const auto& arbiter : arbiters_) {
        if (arbiter != nullptr) arbiter->kill();
      }
      break;
    case Fault::Kind::kWallClock:
      network_.set_wall_clock(fault.which % 2 == 0 ? kHomeSite : kAgentSite, milliseconds(fault.amount));
      break;
    case Fault::Kind::kCount:
      break;
  }
}

void Simulation::end_fault(size_t index) {
  const Fault& fault = faults_[index];
  note("fault over", to_string(fault.kind), index + 1);
  expect_resumed(index);
  const auto index_of = [this](const Process& process) { return static_cast<size_t>(&process - processes_.data()); };
  switch (fault.kind) {
    case Fault::Kind::kDelay:
      network_.delay = microseconds(50);
      network_.jitter = microseconds(20);
      break;
    case Fault::Kind::kPartition:
      network_.cut.clear();
      break;
    case Fault::Kind::kOneWay:
      for (const auto& way : ways_of(fault)) network_.cut.erase(way);
      break;
    case Fault::Kind::kOneWayBack:
      for (const auto& [from, to] : ways_of(fault)) network_.cut.erase({to, from});
      break;
    case Fault::Kind::kCrashSidecar:
    case Fault::Kind::kDrain:
      bring_up(index_of(one_of(true, fault.which)));
      break;
    case Fault::Kind::kCrashAgent:
      bring_up(index_of(one_of(false, fault.which)));
      break;
    case Fault::Kind::kPowerCut:
      network_.set_dark(kAgentSite, false);
      start_arbiters();
      for (size_t i = 0; i < processes_.size(); ++i) {
        if (processes_[i].site == kAgentSite) bring_up(i);
      }
      break;
    case Fault::Kind::kStuckAgent:
      if (auto& agent = one_of(false, fault.which).agent) agent->is_stuck = false;
      break;
    case Fault::Kind::kSlowAgent:
      if (auto& agent = one_of(false, fault.which).agent) agent->work = agent->usual_work;
      break;
    case Fault::Kind::kCrashLoop:
      for (Process& process : processes_) {
        if (process.agent) process.agent->work = process.agent->usual_work;
      }
      break;
    case Fault::Kind::kSlowReader:
      callers_[fault.which % callers_.size()]->set_reading(true);
      break;
    case Fault::Kind::kDiskFull:
      one_of(true, fault.which).sidecar->disk.is_full = false;
      memory_of(one_of(true, fault.which)).is_full = false;
      break;
    case Fault::Kind::kRestartAgents:
      for (size_t i = 0; i < processes_.size(); ++i) {
        if (processes_[i].computes_with_model) bring_up(i);
      }
      break;
    case Fault::Kind::kCrashArbiter:
      start_arbiters();
      break;
    case Fault::Kind::kNarrow:
      network_.window_bytes = 256 * limits::KiB;
      break;
    default:
      break;
  }
}

}  // namespace mesh::sim
