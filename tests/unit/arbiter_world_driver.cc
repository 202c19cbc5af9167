// What the agents, the driver and the disk of tests/unit/arbiter_world.h do.
#include <algorithm>

#include "tests/unit/arbiter_world.h"

namespace mesh::arbiter {

using gpu::LeaseKind;

void World::carry(const AskYield& asked) {
  ++yields;
  Agent* agent = agent_at(asked.connection);
  if (agent == nullptr || !agent->held.contains(asked.id)) return;
  const ProcessId process = agent->process;
  const LeaseId id = asked.id;
  const Units units = asked.units;
  const bool is_slow = agent->character == Character::kSlow && prng_.below(2) == 0;
  if (is_slow || (agent->character == Character::kStubborn && prng_.below(3) != 0)) return;
  const bool is_lie = agent->character == Character::kLiar && prng_.below(2) == 0;
  after(1 + some(300), [this, process, id] {
    Agent* one = agent_of(process);
    if (one == nullptr || one->connection == 0 || !one->held.contains(id)) return;
    tell(YieldAcknowledged{{one->connection, process, id, one->held[id].epoch}, milliseconds(some(3000))});
  });
  after(301 + some(1200), [this, process, id, units, is_lie] { yield(process, id, units, is_lie); });
}

void World::yield(ProcessId process, LeaseId id, Units units, bool is_lie) {
  Agent* agent = agent_of(process);
  if (agent == nullptr || agent->connection == 0 || !agent->held.contains(id)) return;
  Holding& holding = agent->held[id];
  const LeaseName name{agent->connection, process, id, holding.epoch};
  if (holding.request.kind == LeaseKind::kShared) return release(process, id);
  // Of chunks of ours no lie can be told: their descriptors come back, and what else is mapped is not seen.
  is_lie = is_lie && holding.request.kind == LeaseKind::kAccounted;
  if (units >= holding.told)
    return is_lie ? tell(YieldDone{name, holding.told, holding.extents}) : release(process, id);
  if (holding.request.kind == LeaseKind::kBacked) {
    Extents part;
    for (size_t i = 0; i < gpu::kExtentSizes; ++i) {
      const Units fits = (units - part.units()) / gpu::kExtentUnits[i];
      part.count[i] = static_cast<uint32_t>(std::min<Units>(fits, holding.extents.count[i]));
    }
    account(holding);
    holding.since = now;
    holding.extents -= part;
    holding.told -= part.units();
    return tell(YieldDone{name, part.units(), part});
  }
  account(holding);
  holding.since = now;
  if (!is_lie) {
    holding.told -= units;
    holding.used = holding.told;
  }
  tell(YieldDone{name, units, {}});
}

// Another one that lives; neither says what is false: a little of what a liar says to be free passes for a context.
ProcessId World::any_other(const gpu::Request& request, ProcessId process) {
  if (!terms_.has_go_betweens || request.kind != LeaseKind::kAccounted || prng_.below(3) != 0) return 0;
  const Agent& other = agents_[prng_.below(agents_.size())];
  const bool is_fit = other.is_alive && other.connection != 0 && other.process != process;
  const bool is_liar = agent_of(process)->character == Character::kLiar;
  return is_fit && !is_liar && other.character != Character::kLiar ? other.process : 0;
}

// Those for whom it leased have what they have, until they are through with it.
void World::leave_behind(const Agent& agent) {
  for (const auto& [id, holding] : agent.held) {
    if (holding.used_by != agent.process) leave_behind(id, holding);
  }
}

void World::leave_behind(LeaseId id, const Holding& holding) {
  if (agent_of(holding.used_by) == nullptr || holding.used == 0) return;
  left_behind_[id] = {holding.used, holding.on, holding.used_by, holding.request.model};
  ++left_behind;
  after(1 + some(10'000), [this, id] { left_behind_.erase(id); });
}

// What it used is free, whoever leased it.
void World::end_uses_of(ProcessId process) {
  for (Agent& holder : agents_) {
    std::erase_if(holder.held, [process](const auto& each) { return each.second.used_by == process; });
  }
  std::erase_if(left_behind_, [process](const auto& each) { return each.second.used_by == process; });
}

void World::carry(const SignalProcess& signal) {
  ++signals;
  if (!signal.kill && prng_.below(2) == 0) return;
  const ProcessId process = signal.process;
  after(1 + some(500), [this, process] { die(process); });
}

void World::carry(const WatchProcess& watch) {
  const ProcessId process = watch.process;
  if (agent_of(process) == nullptr) after(1, [this, process] { tell(ProcessEnded{process}); });
}

void World::carry(const CreateChunks& create) {
  Truth& truth = truth_[create.gpu];
  truth.pool += create.plan.create.units() - create.plan.release.units() - create.plan.take.units();
  truth.chunks[create.id] += create.plan.take.units();
  REQUIRE(truth.pool >= 0);
  check_room(create.gpu);
  ChunksCreated created{create.id, create.gpu, {}};
  if (terms_.has_failures && prng_.below(50) == 0 && create.plan.create.total() > 0) {
    created.missing = create.plan.create;
    // What was to be change of it is missing in the pool, the rest of what was asked for.
    Extents of_asked = create.plan.take;
    for (size_t i = 0; i < gpu::kExtentSizes; ++i) {
      created.missing.count[i] = std::min(created.missing.count[i], of_asked.count[i]);
    }
  }
  const uint64_t epoch = engine->epoch();
  // An arbiter that is killed before it hears of the failure leaves the room of what is missing to its successor.
  after(1 + some(30), [this, created, epoch] {
    if (engine->epoch() != epoch) return;
    truth_[created.gpu].chunks[created.id] -= created.missing.units();
    tell(created);
  });
}

// A chunk that goes back into the pool is mapped by nobody.
void World::carry(const ReturnChunks& back) {
  Truth& truth = truth_[back.gpu];
  Units& left = truth.chunks[back.id];
  // Missing ones were never there.
  const Units returned = std::min(left, back.extents.units());
  left -= returned;
  truth.pool += returned;
  for (const Agent& agent : agents_) {
    if (!agent.is_alive) continue;
    for (const auto& [id, holding] : agent.held) {
      if (id == back.id && !holding.segment) REQUIRE(holding.told <= left);
      if (holding.segment == back.id) REQUIRE(left > 0);
    }
  }
  if (left == 0) truth.chunks.erase(back.id);
}

void World::carry(const SampleGpu& asked) {
  const GpuIndex gpu = asked.gpu;
  after(20, [this, gpu] { sample(gpu); });
}

void World::carry(const AppendJournal& append) {
  const JournalEntry& entry = append.entry;
  switch (entry.kind) {
    case JournalEntry::Kind::kEpoch:
      journal_epoch_ = entry.epoch;
      break;
    case JournalEntry::Kind::kLease:
      journal_leases_[entry.id] = entry;
      break;
    case JournalEntry::Kind::kSegment:
      journal_segments_[entry.id] = entry;
      break;
    case JournalEntry::Kind::kGone:
      (entry.key.content ? journal_segments_ : journal_leases_).erase(entry.id);
      break;
  }
}

// kill -9 and a new one: agents go on, all sockets are closed, and what nobody was told of is destroyed.
void World::restart() {
  ++restarts;
  after(15'000 + some(60'000), [this] { restart(); });
  std::vector<JournalEntry> journal = {JournalEntry{.kind = JournalEntry::Kind::kEpoch, .epoch = journal_epoch_}};
  for (const auto& [id, entry] : journal_segments_) journal.push_back(entry);
  for (const auto& [id, entry] : journal_leases_) journal.push_back(entry);
  ArbiterConfig config;
  config.sees_processes = terms_.sees_processes;
  for (const Units total : terms_.cards) {
    config.gpus.push_back({{0, config.gpus.size() + 1}, {total, 100, gpu::bounds::emergency_units}, {}});
  }
  engine = std::make_unique<Engine>(std::move(config));
  reserved_since_.clear();
  for (Agent& agent : agents_) {
    agent.asked.clear();
    agent.asked_for.clear();
    if (agent.connection == 0 || !agent.is_alive) continue;
    agent.connection = ++next_connection_;
    const ProcessId process = agent.process;
    after(1 + some(3300), [this, process] {
      Agent* one = agent_of(process);
      if (one == nullptr || one->connection == 0) return;
      const auto shown = one->held;
      for (const auto& [id, holding] : shown) {
        tell(LeasePresented{{one->connection, process, id, holding.epoch}, holding.told, holding.extents});
      }
    });
  }
  Actions out;
  engine->begin(journal, now, out);
  for (Truth& truth : truth_) {
    truth.pool = 0;
    std::erase_if(truth.chunks, [this](const auto& each) {
      return !journal_segments_.contains(each.first) &&
             !(journal_leases_.contains(each.first) && journal_leases_[each.first].is_handed);
    });
  }
  carry_out(out);
}

void World::watch_reservations() {
  for (const auto& [id, entry] : engine->entries()) {
    if (entry.begins_by) REQUIRE(*entry.begins_by > now);
  }
  std::map<LeaseId, Instant> reserved;
  for (const gpu::Reservation& reservation : engine->queue().reservations()) {
    const gpu::Waiter* waiter = engine->queue().find(reservation.id);
    if (waiter->aged_at() <= now) reserved[reservation.id] = std::max(reservation.since, waiter->aged_at());
  }
  for (const auto& [id, since] : reserved_since_) {
    if (!reserved.contains(id)) longest_reserved = std::max(longest_reserved, now - since);
  }
  reserved_since_ = std::move(reserved);
}

}  // namespace mesh::arbiter
