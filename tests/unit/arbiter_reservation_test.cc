// Who waited too long has memory held back for him: what others may take of it meanwhile, and that it ends.
#include "tests/unit/arbiter_desk.h"

namespace mesh::arbiter {
namespace {

using gpu::LeaseKind;
using gpu::Revocability;

constexpr Units kFree = 12 * kGiBUnits - gpu::bounds::emergency_units;  // of a card of 12 GiB

gpu::Request firm(Units units, int64_t hold_ms = 0) {
  gpu::Request made;
  made.min = made.want = units;
  made.revocability = Revocability::kNever;
  made.hold_hint = milliseconds(hold_ms);
  return made;
}

// Steps back when asked, and is tried before others.
gpu::Request nimble(Units units, GpuMask gpus) {
  gpu::Request made;
  made.min = made.want = units;
  made.priority = Priority::kCritical;
  made.gpus = gpus;
  return made;
}

TEST_CASE("what is complete for who reserved is his, whoever would step back for him in his turn") {
  Desk desk(cards({12 * kGiBUnits}));
  gpu::Request held = firm(kFree - 1000);
  held.priority = Priority::kBatch;
  desk.hold(1, 1, held);
  desk.ask(2, 2, firm(kFree - 500));
  desk.wait(gpu::bounds::age_ms);
  REQUIRE(desk.engine.queue().reservation_of(id_of(2)) != nullptr);
  desk.ask(3, 3, nimble(1500, gpu::kAnyGpu));
  REQUIRE(desk.engine.queue().size() == 2);
  desk.tell(LeaseReleased{desk.name(1, 1)});
  CHECK(desk.granted(2));
  CHECK_FALSE(desk.granted(3));
}

TEST_CASE("who reserved two cards is not made to wait for each in turn by those who step back on the other") {
  Desk desk(cards({12 * kGiBUnits, 12 * kGiBUnits}));
  for (const uint64_t card : {0, 1}) {
    gpu::Request held = firm(kFree - 1000);
    held.gpus = gpu::mask_of(card);
    desk.hold(1 + card, 1 + card, held);
  }
  gpu::Request both = firm(kFree - 500);
  both.gpu_count = 2;
  desk.ask(3, 3, both);
  desk.wait(gpu::bounds::age_ms);
  desk.ask(4, 4, nimble(1500, 0b01));
  desk.ask(5, 5, nimble(1500, 0b10));
  desk.ask(6, 6, nimble(5000, 0b01));
  REQUIRE(desk.engine.queue().size() == 4);
  desk.tell(LeaseReleased{desk.name(1, 1)});
  REQUIRE(desk.granted(4));  // the other card is not to be had yet
  desk.tell(LeaseReleased{desk.name(2, 2)});
  REQUIRE(desk.asked_to_yield(4));
  REQUIRE(desk.asked_to_yield(5));
  desk.tell(YieldDone{desk.name(4, 4), 1500, {}});
  CHECK_FALSE(desk.granted(6));
  desk.tell(YieldDone{desk.name(5, 5), 1500, {}});
  CHECK(desk.granted(3));
}

TEST_CASE("who will step back delays nobody, so nobody else may stay as long as he said he would") {
  Desk desk(cards({12 * kGiBUnits}));
  desk.hold(1, 1, firm(kFree - 1000, 20'000));
  desk.ask(2, 2, firm(kFree - 50));
  desk.wait(gpu::bounds::age_ms);
  gpu::Request stepping = nimble(900, gpu::kAnyGpu);
  stepping.kind = LeaseKind::kBacked;
  stepping.hold_hint = milliseconds(60'000);
  desk.ask(3, 3, stepping);
  REQUIRE(desk.count<CreateChunks>() == 1);  // and it is not told of them before they are there
  desk.ask(4, 4, firm(90, 40'000));
  CHECK_FALSE(desk.granted(4));
  desk.ask(5, 5, firm(90, 10'000));  // is done before the first one
  CHECK(desk.granted(5));
}

}  // namespace
}  // namespace mesh::arbiter
