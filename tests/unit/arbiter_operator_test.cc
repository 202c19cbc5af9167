// What an operator orders and asks, and what it does to those who hold memory.
#include "tests/unit/arbiter_desk.h"

namespace mesh::arbiter {
namespace {

using gpu::LeaseKind;
using gpu::Revocability;

constexpr Units kFree = 12 * kGiBUnits - gpu::bounds::emergency_units;  // of a card of 12 GiB

TEST_CASE("an eviction asks the holder as far as it agreed, and takes nothing from who agreed to nothing") {
  Desk desk(cards({12 * kGiBUnits}));
  desk.hold(1, 1, desk.request(kGiBUnits));
  gpu::Request firm = desk.request(kGiBUnits);
  firm.revocability = Revocability::kNever;
  desk.hold(2, 2, firm);
  CHECK(desk.engine.eviction_of(id_of(9), desk.now) == Eviction::kUnknown);
  CHECK(desk.engine.eviction_of(id_of(2), desk.now) == Eviction::kNotAgreed);
  desk.tell(EvictionOrdered{id_of(2)});
  CHECK(desk.find<AskYield>(2) == nullptr);
  CHECK(desk.engine.eviction_of(id_of(1), desk.now) == Eviction::kAsked);
  desk.tell(EvictionOrdered{id_of(1)});
  REQUIRE(desk.find<AskYield>(1) != nullptr);
  CHECK(desk.find<AskYield>(1)->units == kGiBUnits);
  CHECK(desk.engine.eviction_of(id_of(1), desk.now) == Eviction::kUnderWay);
  desk.tell(YieldDone{desk.name(1, 1), 0, {}});
  desk.tell(YieldDone{desk.name(1, 1), 0, {}});
  CHECK(desk.engine.eviction_of(id_of(1), desk.now) == Eviction::kRefused);
}

TEST_CASE("a card that is drained grants nothing and asks all who hold any of it, until it is not drained any more") {
  Desk desk(cards({12 * kGiBUnits}));
  desk.hold(1, 1, desk.request(kGiBUnits));
  desk.tell(DrainOrdered{0, true});
  CHECK(desk.find<AskYield>(1) != nullptr);
  desk.ask(2, 2, desk.request(1));
  CHECK_FALSE(desk.granted(2));
  CHECK(desk.engine.entries().at(id_of(2)).why == Reason::kDrained);
  desk.tell(LeaseReleased{desk.name(1, 1)});
  CHECK_FALSE(desk.granted(2));
  desk.tell(DrainOrdered{0, false});
  CHECK(desk.granted(2));
}

TEST_CASE("what is asked while one card is drained goes to the other") {
  Desk desk(cards({12 * kGiBUnits, 12 * kGiBUnits}));
  desk.tell(DrainOrdered{0, true});
  desk.ask(1, 1, desk.request(kFree));
  REQUIRE(desk.granted(1));
  CHECK(desk.find<SendGrant>(1)->on == gpu::mask_of(1));
}

TEST_CASE("a plan says what fits, whom it would ask and how long that takes, and changes nothing") {
  Desk desk(cards({12 * kGiBUnits, 4 * kGiBUnits}));
  desk.hold(1, 1, desk.request(8 * kGiBUnits));
  desk.wait(20'000);
  const auto small = desk.engine.plan(desk.request(kGiBUnits), desk.now);
  REQUIRE(small.size() == 2);
  CHECK(small[0].fits_now);
  CHECK(small[0].at == desk.now);
  CHECK(small[0].asked.empty());
  const auto large = desk.engine.plan(desk.request(8 * kGiBUnits), desk.now);
  CHECK_FALSE(large[0].fits_now);
  CHECK(large[0].why == Reason::kYielding);
  CHECK(large[0].asked == std::vector{id_of(1)});
  CHECK(large[0].at - desk.now == milliseconds(gpu::bounds::ack_ms + gpu::bounds::grace_ms));
  CHECK(large[1].why == Reason::kNeverFits);
  CHECK(large[1].at == kNever);
  CHECK(desk.engine.eviction_of(id_of(1), desk.now) == Eviction::kAsked);
  // And so it happens.
  desk.ask(2, 2, desk.request(8 * kGiBUnits));
  CHECK(desk.find<AskYield>(1) != nullptr);
}

TEST_CASE("where nobody may be asked a plan tells when the holder expects to be done, or that nobody knows") {
  Desk desk(cards({12 * kGiBUnits}));
  gpu::Request firm = desk.request(10 * kGiBUnits);
  firm.revocability = Revocability::kNever;
  firm.hold_hint = milliseconds(60'000);
  desk.hold(1, 1, firm);
  const auto plan = desk.engine.plan(desk.request(8 * kGiBUnits), desk.now);
  CHECK(plan[0].why == Reason::kNoVictims);
  CHECK(plan[0].asked.empty());
  CHECK(plan[0].at - desk.now == milliseconds(60'000));
  desk.tell(LeaseReleased{desk.name(1, 1)});
  firm.hold_hint = {};
  desk.hold(2, 2, firm);
  CHECK(desk.engine.plan(desk.request(8 * kGiBUnits), desk.now)[0].at == kNever);
}

}  // namespace
}  // namespace mesh::arbiter
