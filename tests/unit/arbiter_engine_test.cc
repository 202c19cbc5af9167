#include "sidecar/arbiter/residence.h"
#include "tests/unit/arbiter_desk.h"

namespace mesh::arbiter {
namespace {

using gpu::LeaseKind;
using gpu::LeaseState;
using gpu::Revocability;

constexpr Units kFree = 12 * kGiBUnits - gpu::bounds::emergency_units;  // of a card of 12 GiB

TEST_CASE("what is free is granted at once, and is no more than that") {
  Desk desk(cards({12 * kGiBUnits}));
  desk.ask(1, 1, desk.request(kFree));
  CHECK(desk.granted(1));
  CHECK(desk.find<SendGrant>(1)->units == kFree);
  desk.ask(2, 2, desk.request(1));
  CHECK_FALSE(desk.granted(2));
  CHECK(desk.grantable() == 0);
}

TEST_CASE("nothing is granted before it is known what others use") {
  Actions out;
  Engine engine(cards({12 * kGiBUnits}));
  const Instant now{milliseconds(1000)};
  engine.begin({}, now, out);
  out.clear();
  gpu::Request request;
  request.min = request.want = 1;
  engine.on(LeaseAsked{1, 1, id_of(1), request, {}}, now, out);
  REQUIRE(out.size() == 1);
  CHECK(std::get<RecordDecision>(out[0]).reason == Reason::kNotReconciled);
}

TEST_CASE("what can never fit is refused at once, with the largest that could") {
  Desk desk(cards({8 * kGiBUnits, 12 * kGiBUnits}));
  desk.ask(1, 1, desk.request(kFree + 1));
  CHECK(desk.refused(1) == Reason::kNeverFits);
  CHECK(desk.find<SendRefusal>(1)->largest == kFree);
  gpu::Request two = desk.request(9 * kGiBUnits);
  two.gpu_count = 2;
  desk.ask(1, 2, two);
  CHECK(desk.find<SendRefusal>(2)->largest == 8 * kGiBUnits - gpu::bounds::emergency_units);
  gpu::Request elsewhere = desk.request(1);
  elsewhere.gpus = 0b100;
  desk.ask(1, 3, elsewhere);
  CHECK(desk.refused(3) == Reason::kNeverFits);
}

TEST_CASE("two GPUs are granted together or not at all") {
  Desk desk(cards({12 * kGiBUnits, 12 * kGiBUnits}));
  gpu::Request first = desk.request(8 * kGiBUnits);
  first.revocability = Revocability::kNever;
  desk.hold(1, 1, first);
  gpu::Request two = desk.request(6 * kGiBUnits);
  two.gpu_count = 2;
  desk.ask(2, 2, two);
  CHECK_FALSE(desk.granted(2));
  CHECK(desk.grantable(0) + desk.grantable(1) == 2 * kFree - 8 * kGiBUnits);  // nothing is held meanwhile
  desk.tell(LeaseReleased{desk.name(1, 1)});
  REQUIRE(desk.granted(2));
  CHECK(desk.find<SendGrant>(2)->on == 0b11);
}

TEST_CASE("a waiter is told of its deadline, and is out then") {
  Desk desk(cards({12 * kGiBUnits}));
  desk.hold(1, 1, desk.request(kFree));
  desk.tell(LeaseUsed{desk.name(1, 1), true});
  gpu::Request hasty = desk.request(10);
  hasty.deadline = desk.now + milliseconds(700);
  desk.ask(2, 2, hasty);
  desk.wait(699);
  CHECK(desk.refused(2) == Reason::kNone);
  desk.wait(1);
  CHECK(desk.refused(2) == Reason::kDeadline);
  CHECK(desk.engine.queue().size() == 0);
}

TEST_CASE("a socket that closes frees nothing, the end of its process does") {
  Desk desk(cards({12 * kGiBUnits}));
  desk.hold(1, 1, desk.request(kFree));
  desk.ask(2, 2, desk.request(10));
  desk.tell(ConnectionClosed{1});
  CHECK_FALSE(desk.granted(2));
  CHECK(desk.engine.entries().at(id_of(1)).lease.state == LeaseState::kDying);
  desk.wait(4000);
  CHECK_FALSE(desk.granted(2));
  desk.tell(ProcessEnded{1});
  CHECK(desk.granted(2));
}

TEST_CASE("who closed its socket and lives may still say that it is done, and only its process may") {
  Desk desk(cards({12 * kGiBUnits}));
  desk.hold(1, 1, desk.request(kFree));
  desk.tell(ConnectionClosed{1});
  desk.tell(LeaseReleased{{5, 9, id_of(1), desk.engine.epoch()}});
  CHECK(desk.grantable() == 0);
  desk.tell(LeaseReleased{{5, 1, id_of(1), desk.engine.epoch()}});
  CHECK(desk.grantable() == kFree);
}

TEST_CASE("orders for leases of others, or of another epoch, change nothing") {
  Desk desk(cards({12 * kGiBUnits}));
  desk.hold(1, 1, desk.request(100));
  for (const LeaseName& wrong :
       {LeaseName{2, 2, id_of(1), desk.engine.epoch()}, LeaseName{2, 1, id_of(1), desk.engine.epoch()},
        LeaseName{1, 1, id_of(1), desk.engine.epoch() + 1}, LeaseName{1, 1, id_of(8), desk.engine.epoch()}}) {
    desk.tell(LeaseReleased{wrong});
    CHECK(desk.count<SendError>() == 1);
    desk.tell(YieldDone{wrong, 50, {}});
    CHECK(desk.count<SendError>() == 1);
    desk.tell(LeasePresented{wrong, 100, {}});
    CHECK(desk.count<SendError>() == 1);
  }
  CHECK(desk.grantable() == kFree - 100);
}

TEST_CASE("an idle one yields for one that waits, and is granted nothing that is not back") {
  Desk desk(cards({12 * kGiBUnits}));
  desk.hold(1, 1, desk.request(kFree));
  desk.ask(2, 2, desk.request(100));
  REQUIRE(desk.asked_to_yield(1));
  CHECK_FALSE(desk.granted(2));
  desk.tell(YieldAcknowledged{desk.name(1, 1), milliseconds(100)});
  CHECK_FALSE(desk.granted(2));
  desk.tell(YieldDone{desk.name(1, 1), kFree, {}});
  CHECK(desk.granted(2));
}

TEST_CASE("one in use does not yield for its like before that one has waited long, and this one had its time") {
  Desk desk(cards({12 * kGiBUnits}));
  desk.hold(1, 1, desk.request(kFree));
  desk.tell(LeaseUsed{desk.name(1, 1), true});
  desk.ask(2, 2, desk.request(100));
  CHECK_FALSE(desk.asked_to_yield(1));
  desk.wait(9900);
  CHECK_FALSE(desk.asked_to_yield(1));
  desk.wait(300);
  CHECK(desk.asked_to_yield(1));
}

TEST_CASE("weights are shares, not ranks: only a priority that had less takes what a lower one uses") {
  for (const bool had_more : {false, true}) {
    Desk desk(cards({12 * kGiBUnits}));
    gpu::Request critical = desk.request(5000);
    critical.priority = Priority::kCritical;
    critical.revocability = Revocability::kNever;
    desk.hold(1, 1, critical);
    gpu::Request batch = desk.request(kFree - 5000);
    batch.priority = Priority::kBatch;
    desk.hold(2, 2, batch);
    desk.tell(LeaseUsed{desk.name(2, 2), true});
    desk.tell(YieldDone{desk.name(2, 2), had_more ? kFree - 5100 : 1, {}});
    desk.wait(had_more ? 60'000 : 0);
    critical.min = critical.want = kFree - 5000;
    critical.deadline = desk.now + milliseconds(60'000);
    desk.ask(3, 3, critical);
    CHECK(desk.asked_to_yield(2) == !had_more);
  }
}

TEST_CASE("who agreed to nothing is never asked for others") {
  Desk desk(cards({12 * kGiBUnits}));
  gpu::Request firm = desk.request(kFree);
  firm.revocability = Revocability::kNever;
  desk.hold(1, 1, firm);
  desk.ask(2, 2, desk.request(100));
  desk.wait(60'000);
  CHECK(desk.count<AskYield>() == 0);
}

TEST_CASE("only who agreed to be ended is signalled, and its memory is granted when its process is gone") {
  for (const bool agreed : {false, true}) {
    Desk desk(cards({12 * kGiBUnits}));
    gpu::Request held = desk.request(kFree);
    held.revocability = agreed ? Revocability::kKill : Revocability::kRelease;
    desk.hold(1, 1, held);
    desk.ask(2, 2, desk.request(100));
    desk.wait(3500);
    CHECK((desk.count<SignalProcess>() == 2) == agreed);
    CHECK_FALSE(desk.granted(2));
    desk.tell(ProcessEnded{1});
    CHECK(desk.granted(2));
  }
}

TEST_CASE("a time to live that is over starts to ask, again and again, and forgets nothing") {
  Desk desk(cards({12 * kGiBUnits}));
  gpu::Request firm = desk.request(500);
  firm.revocability = Revocability::kNever;
  firm.ttl = milliseconds(1000);
  desk.hold(1, 1, firm);
  desk.wait(900);
  CHECK(desk.count<AskYield>() == 0);
  desk.tell(LeaseRenewed{desk.name(1, 1)});
  desk.wait(900);
  CHECK(desk.count<AskYield>() == 0);
  desk.wait(200);
  CHECK(desk.asked_to_yield(1));
  desk.wait(60'000);
  CHECK(desk.count<AskYield>() >= 8);
  CHECK(desk.count<SignalProcess>() == 0);
  CHECK(desk.grantable() == kFree - 500);
}

TEST_CASE("others that take what was leased stop grants and make holders yield") {
  Desk desk(cards({12 * kGiBUnits}));
  desk.hold(1, 1, desk.request(kFree - 100));
  desk.sample(0, kFree + 50);  // 150 are not explained
  CHECK(desk.asked_to_yield(1));
  desk.ask(2, 2, desk.request(10));
  CHECK_FALSE(desk.granted(2));
  CHECK(desk.find<RecordDecision>(2)->reason == Reason::kPressure);
  desk.tell(YieldDone{desk.name(1, 1), 60, {}});
  CHECK(desk.granted(2));
}

TEST_CASE("who uses more than its lease in two samples gets nothing more until it does not") {
  Desk desk(cards({12 * kGiBUnits}, true));
  desk.hold(1, 1, desk.request(100));
  desk.sample(0, 1000, {{1, 1000}});
  desk.ask(1, 2, desk.request(10));
  CHECK(desk.granted(2));
  desk.sample(0, 1000, {{1, 1000}});
  desk.ask(1, 3, desk.request(10));
  CHECK(desk.refused(3) == Reason::kPoliced);
  desk.ask(2, 4, desk.request(10));
  CHECK(desk.granted(4));
  desk.sample(0, 100, {{1, 100}});
  desk.ask(1, 5, desk.request(10));
  CHECK(desk.granted(5));
}

TEST_CASE("a commit gives back what only loading needed") {
  Desk desk(cards({12 * kGiBUnits}));
  gpu::Request loader = desk.request(1000);
  loader.peak = 3000;
  desk.ask(1, 1, loader);
  CHECK(desk.grantable() == kFree - 3000);
  desk.tell(LeaseCommitted{desk.name(1, 1), 900, {}});
  CHECK(desk.grantable() == kFree - 900);
}

TEST_CASE("who was offloaded comes back as old as it was") {
  Desk desk(cards({12 * kGiBUnits}));
  gpu::Request first = desk.request(kFree);
  first.revocability = Revocability::kOffload;
  const Instant asked_at = desk.now;
  desk.hold(1, 1, first);
  desk.wait(2000);
  desk.ask(2, 2, desk.request(100));
  REQUIRE(desk.find<AskYield>(1)->how == gpu::YieldHow::kOffload);
  desk.tell(YieldDone{desk.name(1, 1), kFree, {}});
  first.ticket = id_of(1);
  desk.ask(1, 3, first);
  CHECK(desk.engine.entries().at(id_of(3)).lease.asked_at == asked_at);
}

TEST_CASE("a hot card gives nothing to batch, and a critical one takes back what batch has") {
  Desk desk(cards({12 * kGiBUnits}));
  gpu::Request batch = desk.request(100);
  batch.priority = Priority::kBatch;
  desk.hold(1, 1, batch);
  desk.tell(LeaseUsed{desk.name(1, 1), true});
  GpuSampled hot;
  hot.has_heat = true;
  hot.celsius = 84;
  desk.tell(hot);
  desk.ask(2, 2, batch);
  CHECK_FALSE(desk.granted(2));
  desk.ask(3, 3, desk.request(100));
  CHECK(desk.granted(3));
  CHECK(desk.count<AskYield>() == 0);
  desk.wait(10'000);
  hot.celsius = 88;
  desk.tell(hot);
  CHECK(desk.asked_to_yield(1));
  CHECK_FALSE(desk.asked_to_yield(3));
}

TEST_CASE("who cannot wait a second draws on the reserve, and is asked to give it back after five") {
  Desk desk(cards({12 * kGiBUnits}));
  gpu::Request firm = desk.request(kFree);
  firm.revocability = Revocability::kNever;
  desk.hold(1, 1, firm);
  gpu::Request urgent = desk.request(100);
  urgent.priority = Priority::kCritical;
  urgent.deadline = desk.now + milliseconds(900);
  desk.hold(2, 2, urgent);
  desk.ask(3, 3, desk.request(1));
  CHECK_FALSE(desk.granted(3));
  desk.wait(4900);
  CHECK_FALSE(desk.asked_to_yield(2));
  desk.wait(400);
  CHECK(desk.asked_to_yield(2));
}

TEST_CASE("slack above the threshold is asked for, not too often") {
  Desk desk(cards({12 * kGiBUnits}));
  desk.hold(1, 1, desk.request(1000));
  desk.tell(LiveReported{desk.name(1, 1), 850});
  CHECK_FALSE(desk.asked_to_yield(1));
  desk.tell(LiveReported{desk.name(1, 1), 800});
  REQUIRE(desk.asked_to_yield(1));
  CHECK(desk.find<AskYield>(1)->units == 200);
  desk.tell(LiveReported{desk.name(1, 1), 800});
  CHECK_FALSE(desk.asked_to_yield(1));
  desk.tell(YieldDone{desk.name(1, 1), 200, {}});
  CHECK(desk.grantable() == kFree - 800);
}

TEST_CASE("why somebody waits is recorded once for each reason") {
  Desk desk(cards({12 * kGiBUnits}));
  gpu::Request firm = desk.request(kFree);
  firm.revocability = Revocability::kNever;
  desk.hold(1, 1, firm);
  desk.ask(2, 2, desk.request(100));
  REQUIRE(desk.find<RecordDecision>(2) != nullptr);
  CHECK(desk.find<RecordDecision>(2)->reason == Reason::kNoVictims);
  desk.wait(1000);
  CHECK(desk.find<RecordDecision>(2) == nullptr);
}

TEST_CASE("of each model it is told where it is, and how soon it could be used where it is not") {
  Desk desk(cards({12 * kGiBUnits}));
  gpu::Request model = desk.request(4000);
  model.model = {1, 1};
  desk.ask(1, 1, model);
  desk.wait(1500);
  REQUIRE(residences(desk.engine, desk.now).size() == 1);
  CHECK(residences(desk.engine, desk.now)[0].is_loading);
  desk.tell(LeaseCommitted{desk.name(1, 1), 3800, {}});
  Residence own = residences(desk.engine, desk.now)[0];
  CHECK(own.at == gpu::Residency::kResident);
  CHECK_FALSE(own.is_loading);
  CHECK(own.load_time == milliseconds(1500));  // as it was seen to take
  CHECK(own.usable_in == Duration{});
  CHECK(own.units == 3800);
  for (const bool has_room : {false, true}) {
    if (has_room) {
      desk.tell(LeaseReleased{desk.name(2, 2)});
    } else {
      desk.ask(2, 2, desk.request(kFree));
      desk.tell(LeaseReleased{desk.name(1, 1)});
      REQUIRE(desk.granted(2));
    }
    own = residences(desk.engine, desk.now)[0];
    CHECK(own.at == gpu::Residency::kDisk);
    CHECK(own.refs == 0);
    CHECK(own.usable_in == milliseconds(has_room ? 1500 : 1500 + gpu::bounds::grace_ms));
  }
}

TEST_CASE("where too much was swapped, nobody waits for that longer than one and a half of his loads") {
  for (const int64_t load_ms : {1000, 0}) {
    Desk desk(cards({12 * kGiBUnits}));
    desk.hold(1, 1, desk.request(kFree));
    for (uint64_t who = 2; who <= 7; ++who) {
      desk.ask(who, who, desk.request(kFree));
      REQUIRE(desk.asked_to_yield(who - 1));
      desk.tell(YieldDone{desk.name(who - 1, who - 1), kFree, {}});
      REQUIRE(desk.granted(who));
      desk.tell(LeaseCommitted{desk.name(who, who), kFree, {}});
    }
    gpu::Request asked = desk.request(kFree);
    asked.load_time = milliseconds(load_ms);
    desk.ask(8, 8, asked);
    CHECK(desk.find<RecordDecision>(8)->reason == Reason::kSwapBudget);
    desk.wait(load_ms == 0 ? 4900 : 1400);
    CHECK_FALSE(desk.asked_to_yield(7));
    desk.wait(gpu::bounds::look_again_ms);
    CHECK(desk.asked_to_yield(7));
  }
}

}  // namespace
}  // namespace mesh::arbiter
