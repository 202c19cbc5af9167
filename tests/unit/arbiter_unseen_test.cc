// What was said to be free, until it is seen to be.
#include "tests/unit/arbiter_desk.h"

namespace mesh::arbiter {
namespace {

constexpr Units kFree = 12 * kGiBUnits - gpu::bounds::emergency_units;  // of a card of 12 GiB

TEST_CASE("who does with any part of what is free gets all of it that he wants") {
  Desk desk(cards({12 * kGiBUnits}, true));
  gpu::Request request = desk.request(2000);
  request.min = 0;
  desk.ask(1, 1, request);
  REQUIRE(desk.granted(1));
  CHECK(desk.find<SendGrant>(1)->units == 2000);
}

TEST_CASE("what is free later than anybody waited for it is free all the same") {
  Desk desk(cards({12 * kGiBUnits}, true));
  desk.hold(1, 1, desk.request(2000));
  desk.sample(0, 2060, {{1, 2060}});
  desk.tell(LeaseReleased{desk.name(1, 1)});
  for (int i = 0; i < 6; ++i) {
    desk.wait(1000);
    desk.sample(0, 2060, {{1, 2060}});
  }
  const Units free = desk.grantable();
  for (int i = 0; i < 2; ++i) desk.sample(0, 60, {{1, 60}});
  CHECK(desk.grantable() == free + 2000);
  CHECK(desk.engine.entries().empty());
}

TEST_CASE("what was said to be free is granted when a sample shows it, and a lie is found out") {
  Desk desk(cards({12 * kGiBUnits}, true));
  desk.hold(1, 1, desk.request(kFree));
  desk.ask(2, 2, desk.request(3000));
  REQUIRE(desk.asked_to_yield(1));
  desk.tell(YieldDone{desk.name(1, 1), kFree, {}});
  CHECK(desk.count<SampleGpu>() == 1);
  CHECK_FALSE(desk.granted(2));
  desk.sample(0, kFree, {{1, kFree}});
  CHECK_FALSE(desk.granted(2));
  desk.wait(2500);
  desk.sample(0, kFree, {{1, kFree}});
  CHECK(desk.asked_to_yield(1));
  desk.tell(YieldDone{desk.name(1, 1), kFree, {}});
  desk.sample(0, 0, {{1, 0}});
  CHECK(desk.granted(2));
}

}  // namespace
}  // namespace mesh::arbiter
