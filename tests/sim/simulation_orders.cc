// Purges that operators order at admin sockets, and local agents at the service mesh.cache: who gives one, and what
// must become of it.

#include <algorithm>

#include "tests/sim/process.h"
#include "tests/sim/sim_caller.h"
#include "tests/sim/sim_order.h"
#include "tests/sim/simulation.h"

namespace mesh::sim {
namespace {

// By a clock that is 5 % slow, and the way to the operator.
constexpr Duration kOrderTakes = milliseconds(limits::purge_wait_ms * 21 / 20 + 50);
constexpr size_t kOrdersMax = 8;      // that are open at a time
constexpr size_t kOrderBytes = 1500;  // with its answer

std::string name_of(const SimOrder& order) { return "order " + std::to_string(order.number); }

// Whether because of it a sidecar may be out of another's reach, or not answer in time.
bool comes_between(const Fault& fault) {
  switch (fault.kind) {
    case Fault::Kind::kDelay:
    case Fault::Kind::kReset:
    case Fault::Kind::kPartition:
    case Fault::Kind::kOneWay:
    case Fault::Kind::kOneWayBack:
    case Fault::Kind::kCrashSidecar:
    case Fault::Kind::kPowerCut:
    case Fault::Kind::kPauseSidecar:
    case Fault::Kind::kNarrow:
    case Fault::Kind::kDrain:
    case Fault::Kind::kCrashLoop:
      return true;
    default:
      return false;
  }
}

}  // namespace

void Simulation::draw_order(Ask& ask, Prng& prng) {
  const auto& services = home_of(ask.caller).kept_services;
  const size_t fact = Facts::draw_changing(services[prng.below(services.size())], prng);
  ask.order = facts_.draw_order(services, fact, prng, network_.now());
  facts_.give(ask.order, network_.now());
}

void Simulation::order_now_and_then() {
  if (!asking_ || !has_operator_) return;
  order_a_purge(std::nullopt);
  const auto ms = static_cast<int64_t>(50 + prng_.below(500));
  network_.at(network_.now() + milliseconds(ms), [this] { order_now_and_then(); });
}

// An agent has just been asked for it, for somebody who will keep what it says.
void Simulation::order_meanwhile(size_t fact) {
  if (!asking_ || !has_operator_ || prng_.below(6) > 0) return;
  const auto us = static_cast<int64_t>(prng_.below(1500));
  network_.at(network_.now() + microseconds(us), [this, fact] { order_a_purge(fact); });
}

// At any sidecar that knows the fact.
void Simulation::order_a_purge(std::optional<size_t> fact) {
  std::erase_if(orders_, [](const auto& order) { return order->is_over; });
  const auto may_be_asked = [&](const Process& process) {
    if (!process.is_sidecar() || process.down > 0 || !process.sidecar->lives()) return false;
    const auto& known = process.kept_services;
    return !fact || std::find(known.begin(), known.end(), Facts::service_of(*fact)) != known.end();
  };
  std::vector<size_t> choices;
  for (size_t i = 0; i < processes_.size(); ++i) {
    if (may_be_asked(processes_[i])) choices.push_back(i);
  }
  if (choices.empty() || orders_.size() >= kOrdersMax) return;
  const size_t chosen = choices[prng_.below(choices.size())];
  const Process& process = processes_[chosen];
  const auto& services = process.kept_services;
  if (!fact) fact = Facts::draw_changing(services[prng_.below(services.size())], prng_);
  PurgeOrder order{.number = ++last_order_, .sidecar = chosen, .life = process.life};
  order.order = facts_.draw_order(services, *fact, prng_, network_.now());
  orders_.push_back(std::make_unique<SimOrder>(*this, std::move(order), process.site, process.admin));
}

void Simulation::on_order_given(SimOrder& order) {
  note("operator", "orders of " + processes_[order.sidecar].name + " " + order.order.text, order.number);
  order.given = network_.now();
  order.excused += microseconds(static_cast<int64_t>(70 * 4 * kOrderBytes / network_.piece_bytes));
  facts_.give(order.order, network_.now());
}

void Simulation::on_order_answered(SimOrder& order) {
  const auto answer = nlohmann::json::parse(order.answer);
  const std::string code = answer.value("code", "?");
  note("operator", "hears " + code + " of order", order.number);
  ++results_["order " + code];
  if (code == "OK") {
    facts_.acknowledge(order.order, network_.now());
  } else {
    const bool is_known =
        code == "OUTCOME_UNKNOWN" && answer.value("mesh", nlohmann::json()).value("rule", "") == "purge_not_confirmed";
    claim(is_known && may_be_unconfirmed(order.given),
          name_of(order) + " got " + code + ", for which there is no reason: " + order.answer);
  }
  claim(network_.now() - order.given <= kOrderTakes + order.excused, name_of(order) + " was answered late");
}

void Simulation::on_order_answered_again(const SimOrder& order) { violate(name_of(order) + " got a second answer"); }

// A process that is told to go does not wait for orders.
void Simulation::on_order_over(const SimOrder& order) {
  const Process& process = processes_[order.sidecar];
  const bool is_gone = process.life != order.life || process.down > 0;
  claim(order.is_answered || is_gone, name_of(order) + " was hung up on");
}

bool Simulation::may_be_unconfirmed(Instant given) const {
  return given < well_since_ && std::any_of(faults_.begin(), faults_.end(), comes_between);
}

void Simulation::check_orders() {
  for (const auto& order : orders_) {
    const Process& process = processes_[order->sidecar];
    const bool is_owed = !order->is_over && !order->is_answered && order->given != kNever &&
                         process.life == order->life && process.sidecar->lives();
    claim(!is_owed || network_.now() - order->given <= kOrderTakes + order->excused,
          name_of(*order) + " is owed an answer and has none");
  }
}

Simulation::Seen Simulation::seen() const {
  Seen seen{.facts = facts_.seen()};
  for (const Process& process : processes_) {
    if (process.is_sidecar()) seen.outlived_replies += process.sidecar->reply_disk.given_to_another;
  }
  for (const auto& arbiter : arbiters_) {
    if (arbiter != nullptr) seen.grants += arbiter->grants();
  }
  return seen;
}

}  // namespace mesh::sim
