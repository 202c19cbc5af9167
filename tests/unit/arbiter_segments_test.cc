// Shared weights that are read, and asked back for others.
#include <set>

#include "common/base/prng.h"
#include "tests/unit/arbiter_desk.h"

namespace mesh::arbiter {
namespace {

using gpu::LeaseKind;
using gpu::LeaseState;
using gpu::Revocability;

constexpr Units kFree = 12 * kGiBUnits - gpu::bounds::emergency_units;  // of a card of 12 GiB

gpu::Request weights(Units units, uint64_t model = 4, Revocability agreed = Revocability::kRelease) {
  gpu::Request made;
  made.kind = LeaseKind::kShared;
  made.revocability = agreed;
  made.min = made.want = units;
  made.model = {4, model};
  return made;
}

gpu::Request firm(Units units) {
  gpu::Request made;
  made.min = made.want = units;
  made.priority = Priority::kCritical;
  made.revocability = Revocability::kNever;
  return made;
}

// Processes `first` to `last` read the same weights, in leases of the same numbers.
void read_by(Desk& desk, uint64_t first, uint64_t last, const gpu::Request& request) {
  for (uint64_t who = first; who <= last; ++who) desk.ask(who, who, request);
  desk.tell(ChunksCreated{id_of(first), 0, {}});
  desk.tell(SegmentWritten{desk.name(first, first)});
}

TEST_CASE("weights that are read are asked back of all their readers, count once, and are free with the last of them") {
  Desk desk(cards({12 * kGiBUnits}));
  read_by(desk, 1, 3, weights(4000));
  desk.hold(5, 5, desk.request(500));
  desk.ask(9, 9, firm(kFree - 500));
  CHECK(desk.count<AskYield>() == 3);  // the other one would not have been enough
  for (const uint64_t who : {1, 2, 3}) CHECK(desk.find<AskYield>(who)->units == 4000);
  desk.tell(LeaseReleased{desk.name(1, 1)});
  desk.tell(YieldDone{desk.name(2, 2), 4000, {}});
  CHECK_FALSE(desk.granted(9));
  CHECK(desk.grantable() == kFree - 4500);
  desk.tell(LeaseReleased{desk.name(3, 3)});
  CHECK(desk.granted(9));
  CHECK(desk.engine.segments().size() == 0);
}

TEST_CASE("an operator has weights that are read asked back of all their readers, and they are not kept behind that") {
  Desk desk(cards({12 * kGiBUnits}));
  read_by(desk, 1, 2, weights(4000));
  LeaseId segment{};
  desk.engine.segments().for_each([&](const gpu::Segment& each) { segment = each.id; });
  CHECK(desk.engine.eviction_of(id_of(2), desk.now) == Eviction::kInUse);  // one reader's lease of them
  CHECK(desk.engine.eviction_of(segment, desk.now) == Eviction::kAsked);
  desk.tell(EvictionOrdered{segment});
  CHECK(desk.count<AskYield>() == 2);
  CHECK(desk.engine.eviction_of(segment, desk.now) == Eviction::kUnderWay);
  for (const uint64_t who : {1, 2}) desk.tell(LeaseReleased{desk.name(who, who)});
  CHECK(desk.engine.segments().size() == 0);
  CHECK(desk.grantable() == kFree);
  read_by(desk, 3, 3, weights(4000, 4, Revocability::kNever));
  desk.engine.segments().for_each([&](const gpu::Segment& each) { segment = each.id; });
  CHECK(desk.engine.eviction_of(segment, desk.now) == Eviction::kInUse);
  desk.tell(EvictionOrdered{segment});
  CHECK(desk.count<AskYield>() == 0);
}

TEST_CASE("weights of which one reader agreed to nothing are no victim, whoever else reads them") {
  for (const Revocability agreed : {Revocability::kNever, Revocability::kTrim}) {
    Desk desk(cards({12 * kGiBUnits}));
    read_by(desk, 1, 2, weights(4000));
    desk.ask(3, 3, weights(4000, 4, agreed));
    REQUIRE(desk.granted(3));
    desk.ask(9, 9, firm(kFree - 500));
    desk.wait(30'000);
    CHECK(desk.count<AskYield>() == 0);
  }
}

TEST_CASE("weights that their asker reads himself are no victim") {
  Desk desk(cards({12 * kGiBUnits}));
  read_by(desk, 1, 2, weights(4000));
  desk.ask(2, 9, firm(kFree - 500));
  CHECK(desk.count<AskYield>() == 0);
}

TEST_CASE("nobody joins weights that are asked back, before a reader has said that he keeps them") {
  Desk desk(cards({12 * kGiBUnits}));
  read_by(desk, 1, 2, weights(4000));
  desk.ask(9, 9, firm(kFree - 500));
  REQUIRE(desk.asked_to_yield(2));
  desk.ask(3, 3, weights(4000));
  CHECK_FALSE(desk.granted(3));
  desk.tell(LeaseReleased{desk.name(1, 1)});
  desk.tell(YieldDone{desk.name(2, 2), 0, {}});
  CHECK_FALSE(desk.granted(3));
  desk.tell(YieldDone{desk.name(2, 2), 0, {}});
  CHECK(desk.granted(3));
  desk.wait(gpu::bounds::refusal_ms - 1000);
  CHECK(desk.count<AskYield>() == 0);
}

TEST_CASE("weights in use are asked for only where all others are not enough") {
  Desk desk(cards({12 * kGiBUnits}));
  read_by(desk, 1, 2, weights(3000));
  desk.hold(5, 5, desk.request(2100));
  desk.tell(LeaseUsed{desk.name(1, 1), true});
  gpu::Request normal = firm(kFree - 3000);
  normal.priority = Priority::kNormal;
  desk.ask(8, 8, normal);
  CHECK(desk.asked_to_yield(5));
  CHECK_FALSE(desk.asked_to_yield(1));
  desk.tell(LeaseReleased{desk.name(5, 5)});
  REQUIRE(desk.granted(8));
  desk.tell(LeaseReleased{desk.name(8, 8)});
  desk.ask(9, 9, firm(kFree - 2900));
  CHECK(desk.asked_to_yield(1));
  CHECK(desk.asked_to_yield(2));
}

TEST_CASE("a card that is drained asks the readers of weights, too, and a time to live asks for all of them") {
  Desk desk(cards({12 * kGiBUnits}));
  gpu::Request timed = weights(4000);
  timed.ttl = milliseconds(1000);
  read_by(desk, 1, 2, timed);
  desk.wait(1000);
  CHECK(desk.find<AskYield>(1)->units == 4000);
  desk.tell(LeaseReleased{desk.name(1, 1)});
  desk.tell(LeaseReleased{desk.name(2, 2)});
  CHECK(desk.engine.segments().size() == 1);  // nobody needs it: kept as idle
  desk.ask(3, 3, weights(4000));
  REQUIRE(desk.granted(3));
  desk.tell(DrainOrdered{0, true});
  CHECK(desk.asked_to_yield(3));
  desk.tell(LeaseReleased{desk.name(3, 3)});
  CHECK(desk.engine.segments().size() == 0);
}

// What might be taken: a lease, or weights with their readers, or idle ones.
struct Holding {
  uint64_t id = 0;
  std::vector<uint64_t> leases{};
  Units units = 0;
  double cost = 0;
  bool in_use = false;
  bool is_willing = true;
};

std::vector<Holding> any_holdings(Desk& desk, Prng& prng) {
  std::vector<Holding> made;
  uint64_t number = 0;
  const auto below = [&](uint64_t limit) { return static_cast<Units>(prng.below(limit)); };
  for (uint64_t count = 1 + prng.below(12); made.size() < count;) {
    Holding holding{.id = number + 1, .units = 1 + below(450)};
    const auto readers = prng.below(4);  // 0: a lease
    gpu::Request request = readers == 0 ? desk.request(holding.units) : weights(holding.units, holding.id);
    request.load_time = milliseconds(1 + below(20'000));
    for (uint64_t i = 0; i < std::max<uint64_t>(readers, 1); ++i) {
      const bool is_firm = prng.below(8) == 0;
      request.revocability = is_firm ? Revocability::kNever : Revocability::kRelease;
      holding.is_willing = holding.is_willing && !is_firm;
      const uint64_t who = ++number;
      holding.leases.push_back(who);
      if (readers == 0) desk.hold(who, who, request);
      if (readers == 0) continue;
      desk.ask(who, who, request);
      if (i > 0) continue;
      desk.tell(ChunksCreated{id_of(who), 0, {}});
      desk.wait(1 + below(9000));
      desk.tell(SegmentWritten{desk.name(who, who)});
    }
    const bool is_idle = readers > 0 && prng.below(4) == 0;
    for (const uint64_t who : holding.leases) {
      if (is_idle) desk.tell(LeaseReleased{desk.name(who, who)});
      if (is_idle || prng.below(4) != 0) continue;
      desk.tell(LeaseUsed{desk.name(who, who), true});
      holding.in_use = true;
    }
    if (is_idle) holding.is_willing = true;
    if (is_idle) holding.leases.clear();
    made.push_back(holding);
  }
  for (Holding& each : made) {
    const gpu::Worth& worth = desk.engine.gpus()[0].worth;
    const auto entry = desk.engine.entries().find(id_of(each.id));
    double score = 0;
    if (entry != desk.engine.entries().end()) score = entry->second.lease.score;
    desk.engine.segments().for_each([&](const gpu::Segment& segment) {
      if (segment.id == id_of(each.id)) score = segment.score;
    });
    each.cost = worth.cost(score, each.units);
  }
  return made;
}

struct Cost {
  double used = -1;  // the least of those in use
  double idle = -1;  // and then of the others
};

Cost cost_of(const std::vector<Holding>& all, uint32_t set, Units& units) {
  Cost cost{0, 0};
  units = 0;
  for (size_t i = 0; i < all.size(); ++i) {
    if ((set >> i & 1) == 0) continue;
    units += all[i].units;
    (all[i].in_use ? cost.used : cost.idle) += all[i].cost;
  }
  return cost;
}

Cost cheapest(const std::vector<Holding>& all, Units need) {
  Cost best;
  for (uint32_t set = 0; set < (1U << all.size()); ++set) {
    bool is_willing = true;
    for (size_t i = 0; i < all.size(); ++i) is_willing = is_willing && ((set >> i & 1) == 0 || all[i].is_willing);
    Units units = 0;
    const Cost cost = cost_of(all, set, units);
    if (!is_willing || units < need) continue;
    if (best.used < 0 || cost.used < best.used || (cost.used == best.used && cost.idle < best.idle)) best = cost;
  }
  return best;
}

// Which of them were asked, all of their readers, or dropped as idle.
uint32_t taken(const Desk& desk, const std::vector<Holding>& all) {
  uint32_t set = 0;
  for (size_t i = 0; i < all.size(); ++i) {
    size_t asked = 0;
    for (const uint64_t who : all[i].leases) asked += desk.asked_to_yield(who) ? 1 : 0;
    REQUIRE((asked == 0 || asked == all[i].leases.size()));
    const bool is_dropped = all[i].leases.empty() && desk.find<ReturnChunks>(all[i].id) != nullptr;
    if (asked > 0 || is_dropped) set |= 1U << i;
  }
  return set;
}

TEST_CASE("with weights among them victims cost within a tenth of the best there are, and none is superfluous") {
  Prng prng(12);
  int chosen = 0;
  int with_readers = 0;
  for (int round = 0; round < 1500; ++round) {
    Desk desk(cards({12 * kGiBUnits}));
    const std::vector<Holding> all = any_holdings(desk, prng);
    Units sum = 0;
    for (const Holding& each : all) sum += each.units;
    const Units need = 1 + static_cast<Units>(prng.below(static_cast<uint64_t>(sum)));
    gpu::Request rest = firm(desk.grantable());
    rest.priority = Priority::kNormal;
    desk.ask(100, 100, rest);
    REQUIRE(desk.granted(100));
    gpu::Request urgent = firm(need);
    urgent.deadline = desk.now + Duration(1);  // has waited too long as soon as it is asked: no floors
    desk.ask(101, 101, urgent);
    const uint32_t set = taken(desk, all);
    const Cost best = cheapest(all, need);
    REQUIRE((set != 0) == (best.used >= 0));
    if (set == 0) continue;
    ++chosen;
    Units units = 0;
    const Cost cost = cost_of(all, set, units);
    REQUIRE(units >= need);
    REQUIRE(cost.used <= 1.1 * best.used + 1e-9);
    if (best.used == 0) REQUIRE(cost.idle <= 1.1 * best.idle + 1e-9);
    for (size_t i = 0; i < all.size(); ++i) {
      if ((set >> i & 1) != 0) REQUIRE(units - all[i].units < need);
      with_readers += (set >> i & 1) != 0 && all[i].leases.size() > 1;
    }
  }
  CHECK(chosen > 500);
  CHECK(with_readers > 500);
}

}  // namespace
}  // namespace mesh::arbiter
