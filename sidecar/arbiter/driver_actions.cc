// What the engine says is done.
#include <csignal>
#include <cstdlib>
#include <set>

#include "sidecar/arbiter/driver.h"

namespace mesh::arbiter {
namespace {

// What is live is a fraction of a journal of this size.
constexpr uint64_t kJournalSlackBytes = 4 << 20;

// Which lease an agent is told of, or the journal; zero for all else.
LeaseId lease_of(const Action& action) {
  return std::visit(
      [](const auto& each) -> LeaseId {
        using Each = std::decay_t<decltype(each)>;
        if constexpr (std::is_same_v<Each, AppendJournal>) {
          return each.entry.id;
        } else if constexpr (requires { each.connection; }) {
          return each.id;
        } else {
          return {};
        }
      },
      action);
}

}  // namespace

// A grant waits until what makes room for it is closed, and so does everything that is said or written of its lease:
// an arbiter that is killed meanwhile leaves none behind that its holder was not told of.
void Driver::carry_out(const Actions& actions) {
  Actions at_once;
  std::set<LeaseId> waiting;
  bool is_settled = memory_.is_settled();
  for (const Action& action : actions) {
    is_settled = is_settled && !std::holds_alternative<ReleaseChunks>(action);
    const auto* grant = std::get_if<SendGrant>(&action);
    if (grant != nullptr && !is_settled) waiting.insert(grant->id);
  }
  for (const Action& action : deferred_) waiting.insert(lease_of(action));
  waiting.erase(LeaseId{});
  for (const Action& action : actions) (waiting.contains(lease_of(action)) ? deferred_ : at_once).push_back(action);
  carry_out_now(at_once);
}

void Driver::carry_out_now(const Actions& actions) {
  if (actions.empty()) return;
  write_journal(actions);
  for (const Action& action : actions) {
    std::visit([&](const auto& each) { carry(each); }, action);
  }
}

// All of it before anything is done. Whoever cannot write down what he grants must not grant it: his successor finds
// what was agreed before.
void Driver::write_journal(const Actions& actions) {
  std::vector<std::string> records;
  for (const Action& action : actions) {
    const auto* append = std::get_if<AppendJournal>(&action);
    if (append == nullptr) continue;
    records.push_back(encode(append->entry));
    digest_.note(append->entry, records.back());
  }
  if (records.empty()) return;
  counters_.journal_records += records.size();
  auto written = parts_.journal.append(records);
  if (written && parts_.journal.bytes() > kJournalSlackBytes + 4 * digest_.bytes()) {
    std::vector<std::string> live = digest_.records();
    live.insert(live.begin(), parts_.scope);
    written = parts_.journal.rewrite(live);
    ++counters_.journal_rewrites;
  }
  if (written) return;
  parts_.log("journal_failed", "", written.error().text);
  std::abort();
}

template <class Told>
void Driver::tell_client(const Told& told) {
  const auto found = clients_.find(told.connection);
  if (found == clients_.end() || found->second->is_retired) return;
  Frames frames;
  found->second->session.on(told, frames);
  send(*found->second, frames);
}

void Driver::note(std::string_view what, LeaseId id, Reason reason, GpuIndex gpu, Units units) {
  const auto found = engine_.entries().find(id);
  const ProcessId process = found == engine_.entries().end() ? 0 : found->second.lease.process;
  decisions_.note({what, loop_.now(), id, process, reason, gpu, units});
}

void Driver::carry(const SendGrant& grant) {
  ++counters_.grants;
  GpuIndex first = 0;
  while (grant.on >> first > 1 && (grant.on >> first & 1) == 0) ++first;
  note("granted", grant.id, Reason::kNone, first, grant.units);
  tell_client(grant);
}

void Driver::carry(const SendRefusal& refusal) {
  ++counters_.refusals;
  note("refused", refusal.id, refusal.reason, 0, refusal.largest);
  tell_client(refusal);
}

void Driver::carry(const SendError& error) { tell_client(error); }

void Driver::carry(const AskYield& asked) {
  ++counters_.yields;
  note("asked to yield", asked.id, Reason::kNone, 0, asked.units);
  tell_client(asked);
}

void Driver::carry(const SendBegin& begin) { tell_client(begin); }

void Driver::carry(const SignalProcess& order) {
  ++counters_.signals;
  decisions_.note({order.kill ? "killed" : "terminated", loop_.now(), {}, order.process, Reason::kDidNotYield, 0, 0});
  parts_.log(order.kill ? "process_killed" : "process_terminated", std::to_string(io::pid_of(order.process)),
             "it agreed to that, and did not yield");
  const auto found = processes_.find(order.process);
  if (found != processes_.end() && found->second.watch != nullptr)
    found->second.watch->signal(order.kill ? SIGKILL : SIGTERM);
}

void Driver::carry(const WatchProcess& order) {
  const auto known = processes_.find(order.process);
  if (known != processes_.end() && known->second.watch != nullptr) return;
  watch(order.process, UINT32_MAX, io::open_process(order.process));
}

void Driver::carry(const CreateChunks& order) {
  memory_.create(order, user_of(order.id), [this, id = order.id, gpu = order.gpu](const Extents& missing) {
    tell(ChunksCreated{id, gpu, missing});
  });
}

void Driver::carry(const RecordDecision& decision) {
  const bool is_of_process = !decision.id;
  decisions_.note({is_of_process ? "uses too much" : "waits", loop_.now(), decision.id, decision.process,
                   decision.reason, decision.gpu, decision.missing});
  if (is_of_process)
    parts_.log("uses_too_much", std::to_string(io::pid_of(decision.process)),
               std::to_string(gpu::to_bytes(decision.missing)) + " bytes beyond its leases");
}

uint32_t Driver::user_of(LeaseId lease) const {
  const auto entry = engine_.entries().find(lease);
  if (entry == engine_.entries().end()) return UINT32_MAX;
  const auto process = processes_.find(entry->second.lease.process);
  return process == processes_.end() ? UINT32_MAX : process->second.user;
}

}  // namespace mesh::arbiter
