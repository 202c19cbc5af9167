#include "tests/unit/arbiter_world.h"

#include <algorithm>

namespace mesh::arbiter {

using gpu::LeaseKind;
using gpu::Revocability;

namespace {

ArbiterConfig config_of(const WorldTerms& terms) {
  ArbiterConfig config;
  config.sees_processes = terms.sees_processes;
  for (const Units total : terms.cards) {
    config.gpus.push_back({{0, config.gpus.size() + 1}, {total, 100, gpu::bounds::emergency_units}, {}});
  }
  return config;
}

}  // namespace

World::World(WorldTerms terms, uint64_t seed)
    : terms_(std::move(terms)), prng_(seed), agents_(terms_.agents), truth_(terms_.cards.size()) {
  engine = std::make_unique<Engine>(config_of(terms_));
  Actions out;
  engine->begin({}, now, out);
  carry_out(out);
  for (GpuIndex gpu = 0; gpu < truth_.size(); ++gpu) {
    const std::function<void()> tick = [this, gpu] {
      if (terms_.foreign_max > 0 && prng_.below(20) == 0) {
        truth_[gpu].foreign = static_cast<Units>(prng_.below(static_cast<uint64_t>(terms_.foreign_max)));
      }
      sample(gpu);
    };
    // Once a second for ever.
    auto again = std::make_shared<std::function<void()>>();
    *again = [this, tick, again_weak = std::weak_ptr(again)] {
      tick();
      if (auto self = again_weak.lock()) after(1000, [self] { (*self)(); });
    };
    after(0, [again] { (*again)(); });
  }
  for (size_t place = 0; place < agents_.size(); ++place) after(1 + some(2000), [this, place] { start_agent(place); });
  if (terms_.restarts) after(30'000, [this] { restart(); });
}

void World::step() {
  const Instant own = engine->next_deadline();
  const Instant scheduled = schedule_.empty() ? kNever : schedule_.begin()->first;
  now = std::max(now, std::min(own, scheduled));
  if (own <= scheduled) {
    Actions out;
    engine->on_time(now, out);
    carry_out(out);
  } else {
    const auto what = std::move(schedule_.begin()->second);
    schedule_.erase(schedule_.begin());
    what();
  }
  REQUIRE(engine->holds());
  watch_reservations();
  check_nothing_forgotten();
}

// Who lives and was granted something stands in the books, whatever became of his socket.
void World::check_nothing_forgotten() const {
  bool is_all_there = true;
  for (const Agent& agent : agents_) {
    if (!agent.is_alive) continue;
    for (const auto& [id, holding] : agent.held) {
      // Of what a liar says that it freed, a little passes for its context, and is accounted as that; and of what is
      // looked for while its process has other memory.
      const bool may_lie = agent.character == Character::kLiar && holding.request.kind == LeaseKind::kAccounted;
      const bool is_little = terms_.has_go_betweens && holding.told <= gpu::bounds::context_units_max;
      is_all_there = is_all_there && (may_lie || is_little || engine->entries().contains(id));
    }
  }
  for (const auto& [id, left] : left_behind_) {
    const bool is_little = left.units <= gpu::bounds::context_units_max;
    is_all_there = is_all_there && (is_little || engine->entries().contains(id));
  }
  REQUIRE(is_all_there);
}

void World::end() {
  is_ending_ = true;
  for (Agent& agent : agents_) {
    if (agent.is_alive && agent.process != 0) die(agent.process);
  }
  for (Truth& truth : truth_) truth.foreign = 0;
  const Instant until = now + milliseconds(60'000);
  while (now < until) step();
  CHECK(engine->entries().empty());
  CHECK(engine->queue().size() == 0);
  for (GpuIndex gpu = 0; gpu < truth_.size(); ++gpu) {
    Units idle = 0;
    engine->segments().for_each([&](const gpu::Segment& segment) {
      CHECK(segment.state == gpu::SegmentState::kIdle);
      if (segment.key.gpu == gpu) idle += segment.units;
    });
    CHECK(engine->gpus()[gpu].ledger.leased() == idle);
    CHECK(engine->gpus()[gpu].ledger.contexts() == 0);
  }
}

World::Agent* World::agent_at(ConnectionId connection) {
  for (Agent& agent : agents_) {
    if (agent.is_alive && connection != 0 && agent.connection == connection) return &agent;
  }
  return nullptr;
}

World::Agent* World::agent_of(ProcessId process) {
  for (Agent& agent : agents_) {
    if (agent.process == process && agent.is_alive) return &agent;
  }
  return nullptr;
}

void World::start_agent(size_t place) {
  if (is_ending_) return;
  Agent& agent = agents_[place];
  agent = {};
  agent.process = ++next_process_;
  agent.connection = ++next_connection_;
  agent.context.assign(truth_.size(), 0);
  constexpr Character kMix[] = {Character::kHonest, Character::kHonest,   Character::kHonest,
                                Character::kSlow,   Character::kStubborn, Character::kLiar};
  if (!terms_.is_honest) agent.character = kMix[prng_.below(6)];
  const ProcessId process = agent.process;
  after(some(terms_.pause_ms), [this, process] { ask(process); });
  if (terms_.is_honest) return;
  after(5000 + some(120'000), [this, process] { die(process); });
  if (prng_.below(4) != 0) return;
  after(2000 + some(60'000), [this, process] {
    Agent* hung_up = agent_of(process);
    if (hung_up == nullptr) return;
    const ConnectionId closed = std::exchange(hung_up->connection, 0);
    hung_up->asked.clear();
    hung_up->asked_for.clear();
    tell(ConnectionClosed{closed});
  });
}

gpu::Request World::any_request(const Agent& agent) {
  constexpr Units kSizes[] = {100, 100, 400, 400, 1500, 1500, 3000};
  gpu::Request made;
  made.priority = static_cast<Priority>(prng_.below(4));
  made.want = 1 + some(kSizes[prng_.below(7)]);
  made.min = prng_.below(2) == 0 ? made.want : 1 + made.want / 2;
  if (prng_.below(5) == 0) made.peak = made.want + some(200);
  made.hold_hint = prng_.below(2) == 0 ? milliseconds(1 + some(terms_.hold_ms_max)) : Duration{};
  made.load_time = milliseconds(some(5000));
  made.model = {1, 1 + prng_.below(12)};
  made.revocability = terms_.is_firm ? Revocability::kNever : static_cast<Revocability>(prng_.below(5));
  made.kind = static_cast<LeaseKind>(prng_.below(3));
  if (made.kind == LeaseKind::kShared) made.want = made.min = static_cast<Units>(200 + 100 * made.model.low);
  if (made.kind == LeaseKind::kShared) made.peak = 0;
  if (prng_.below(10) == 0 && made.kind != LeaseKind::kShared) made.gpu_count = 2;
  if (terms_.is_saturated) {
    made.priority = static_cast<Priority>(static_cast<size_t>(&agent - agents_.data()) % 4);
    made.kind = LeaseKind::kAccounted;
    return made;
  }
  if (prng_.below(6) == 0) made.ttl = milliseconds(1000 + some(10'000));
  if (prng_.below(6) == 0) made.deadline = now + milliseconds(500 + some(20'000));
  return made;
}

void World::ask(ProcessId process) {
  Agent* agent = agent_of(process);
  if (agent == nullptr || agent->connection == 0 || is_ending_) return;
  if (agent->held.size() + agent->asked.size() < 3) {
    const LeaseId id{0xC0FFEE, ++next_id_};
    const gpu::Request request = any_request(*agent);
    agent->asked[id] = request;
    const ProcessId used_by = any_other(request, process);
    if (used_by != 0) agent->asked_for[id] = used_by;
    tell(LeaseAsked{agent->connection, process, id, request, {}, used_by});
  }
  after(1 + some(2 * terms_.pause_ms), [this, process] { ask(process); });
}

void World::carry(const SendGrant& grant) {
  Agent* agent = agent_at(grant.connection);
  if (agent == nullptr) return;
  ++grants;
  if (const auto known = agent->held.find(grant.id); known != agent->held.end()) {
    REQUIRE(known->second.told == (known->second.segment ? 0 : grant.units));  // adopted as it was
    known->second.epoch = grant.epoch;
    known->second.is_writer = grant.is_writer;
    return;
  }
  const auto asked = agent->asked.extract(grant.id);
  REQUIRE(!asked.empty());
  Holding& holding = agent->held[grant.id];
  holding = {grant.epoch, asked.mapped(), grant.on, grant.segment ? 0 : grant.units, 0, {}, grant.segment, false, now};
  holding.is_writer = grant.is_writer;
  const auto asked_for = agent->asked_for.extract(grant.id);
  holding.used_by = asked_for.empty() ? agent->process : asked_for.mapped();
  segments_shared += grant.segment && !grant.is_writer;
  // What was left of the same model is the same memory, if it is leased for its process again.
  Units same = holding.used_by != agent->process && grant.kind == LeaseKind::kAccounted ? grant.units : 0;
  for (auto& [id, left] : left_behind_) {
    if (left.used_by != holding.used_by || left.model != holding.request.model || left.on != grant.on) continue;
    const Units part = std::min(left.units, same);
    left.units -= part;
    same -= part;
  }
  std::erase_if(left_behind_, [](const auto& each) { return each.second.units == 0; });
  REQUIRE(grant.units >= holding.request.least());
  REQUIRE(grant.units <= holding.request.ask());
  if (grant.kind == LeaseKind::kBacked) holding.extents = gpu::extents_of(grant.units);
  if (grant.kind == LeaseKind::kAccounted) holding.used = grant.units;
  for_each_gpu(grant.on, [&](GpuIndex gpu) {
    // Chunks took their room when they were created.
    if (grant.kind != LeaseKind::kAccounted) return;
    agent_of(holding.used_by)->context[gpu] = 60;
    check_room(gpu);
  });
  const ProcessId process = agent->process;
  const LeaseId id = grant.id;
  after(1 + some(1500), [this, process, id] {
    Agent* loader = agent_of(process);
    if (loader == nullptr || !loader->held.contains(id) || loader->connection == 0) return;
    Holding& held = loader->held[id];
    const LeaseName name{loader->connection, process, id, held.epoch};
    if (held.is_writer) return tell(SegmentWritten{name});
    if (held.segment) return;
    const Units actual = held.request.peak > 0 ? std::min(held.told, held.request.min) : held.told;
    const Extents surplus = held.request.kind == LeaseKind::kBacked && actual < held.told ? Extents{} : Extents{};
    const Units kept = held.request.kind == LeaseKind::kBacked ? held.told : actual;
    held.told = kept;
    if (held.request.kind == LeaseKind::kAccounted) held.used = kept;
    tell(LeaseCommitted{name, kept, surplus});
    if (loader->held.contains(id) && prng_.below(2) == 0) tell(LeaseUsed{name, true, terms_.has_heat});
  });
  // Who is honest keeps what it said.
  const Duration hint = holding.request.hold_hint;
  const bool keeps_word = terms_.is_honest && hint > Duration{};
  after(1 + some(keeps_word ? to_us(hint) / 1000 : terms_.hold_ms_max), [this, process, id] { release(process, id); });
}

void World::carry(const SendRefusal& refusal) {
  ++refusals;
  Agent* agent = agent_at(refusal.connection);
  if (agent == nullptr) return;
  agent->asked.erase(refusal.id);
  agent->asked_for.erase(refusal.id);
}

void World::account(const Holding& holding) {
  const double seconds = std::chrono::duration<double>(now - holding.since).count();
  unit_seconds[static_cast<size_t>(holding.request.priority)] +=
      seconds * static_cast<double>(holding.told) * std::popcount(holding.on);
}

void World::release(ProcessId process, LeaseId id) {
  Agent* agent = agent_of(process);
  if (agent == nullptr || !agent->held.contains(id)) return;
  const Holding holding = agent->held[id];
  account(holding);
  agent->held.erase(id);
  // For whom it was leased has it until he is through with it.
  if (terms_.sees_processes && holding.used_by != process && prng_.below(2) == 0) leave_behind(id, holding);
  // Who hung up says it at another socket, if at all: otherwise its memory is known to be free when it ends.
  const ConnectionId at = agent->connection != 0 ? agent->connection : ++next_connection_;
  tell(LeaseReleased{{at, process, id, holding.epoch}});
}

void World::die(ProcessId process) {
  Agent* agent = agent_of(process);
  if (agent == nullptr) return;
  const auto place = static_cast<size_t>(agent - agents_.data());
  for (const auto& [id, holding] : agent->held) account(holding);
  const ConnectionId closed = std::exchange(agent->connection, 0);
  // It is nobody's agent any more, but its memory comes back later than its socket closes.
  if (closed != 0) tell(ConnectionClosed{closed});
  after(1 + some(150), [this, place, process] {
    if (agent_of(process) == nullptr) return;  // it was killed more than once
    agents_[place].is_alive = false;
    leave_behind(agents_[place]);
    agents_[place].held.clear();
    end_uses_of(process);
    tell(ProcessEnded{process});
    after(some(3000), [this, place] { start_agent(place); });
  });
}

Units World::used_by(const Agent& agent, GpuIndex gpu) const {
  Units used = agent.context[gpu];
  const auto count = [&](const auto& each, Units units) {
    if (each.used_by == agent.process && (each.on & gpu::mask_of(gpu)) != 0) used += units;
  };
  for (const Agent& holder : agents_) {
    for (const auto& [id, holding] : holder.held) count(holding, holding.used);
  }
  for (const auto& [id, left] : left_behind_) count(left, left.units);
  return used;
}

void World::sample(GpuIndex gpu) {
  Truth& truth = truth_[gpu];
  GpuSampled sampled;
  sampled.gpu = gpu;
  sampled.used = truth.foreign + truth.pool;
  if (terms_.has_heat) {
    sampled.has_heat = true;
    sampled.celsius = 60 + static_cast<double>(prng_.below(28));
  }
  truth.foreign_sampled = truth.foreign;
  truth.used_sampled.clear();
  for (const auto& [id, units] : truth.chunks) sampled.used += units;
  for (const Agent& agent : agents_) {
    if (agent.process == 0 || !agent.is_alive) continue;
    const Units used = used_by(agent, gpu);
    sampled.used += used;
    truth.used_sampled[agent.process] = used;
    sampled.processes.push_back({agent.process, used});
  }
  tell(sampled);
}

// Whatever anybody may have by what he was told, or was last seen to have, is on the card at once, with what others
// were last seen to have.
void World::check_room(GpuIndex gpu) const {
  const Truth& truth = truth_[gpu];
  Units claimed = truth.foreign_sampled + truth.pool;
  for (const auto& [id, units] : truth.chunks) claimed += units;
  for (const Agent& agent : agents_) {
    if (agent.process == 0 || !agent.is_alive) continue;
    Units told = 0;
    for (const Agent& holder : agents_) {
      if (!holder.is_alive) continue;
      for (const auto& [id, holding] : holder.held) {
        const bool is_own = holding.used_by == agent.process && holding.request.kind == LeaseKind::kAccounted;
        if (!is_own || (holding.on & gpu::mask_of(gpu)) == 0) continue;
        told += std::max(holding.told, terms_.sees_processes ? 0 : holding.used);
      }
    }
    for (const auto& [id, left] : left_behind_) {
      if (left.used_by == agent.process && (left.on & gpu::mask_of(gpu)) != 0) told += left.units;
    }
    const auto seen = truth.used_sampled.find(agent.process);
    const bool was_seen = terms_.sees_processes && seen != truth.used_sampled.end();
    claimed += std::max(told, was_seen ? seen->second : 0);
  }
  REQUIRE(claimed <= terms_.cards[gpu] - 100);
}

void World::carry_out(const Actions& actions) {
  for (const Action& action : actions) {
    std::visit([this](const auto& each) { carry(each); }, action);
  }
}

}  // namespace mesh::arbiter
