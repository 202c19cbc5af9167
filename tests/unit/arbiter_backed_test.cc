#include "tests/unit/arbiter_desk.h"

namespace mesh::arbiter {
namespace {

using gpu::LeaseKind;
using gpu::LeaseState;
using gpu::Revocability;

constexpr Units kFree = 12 * kGiBUnits - gpu::bounds::emergency_units;  // of a card of 12 GiB

TEST_CASE("chunks are created before a backed lease is granted, and pooled after it") {
  Desk desk(cards({12 * kGiBUnits}));
  gpu::Request backed = desk.request(300);
  backed.kind = LeaseKind::kBacked;
  desk.ask(1, 1, backed);
  CHECK_FALSE(desk.granted(1));
  REQUIRE(desk.find<CreateChunks>(1) != nullptr);
  CHECK(desk.find<CreateChunks>(1)->plan.create == gpu::extents_of(300));
  desk.tell(ChunksCreated{id_of(1), 0, {}});
  CHECK(desk.granted(1));
  desk.tell(LeaseReleased{desk.name(1, 1)});
  CHECK(desk.count<ReturnChunks>() == 1);
  CHECK(desk.grantable() == kFree);
  desk.ask(2, 2, backed);
  CHECK(desk.find<CreateChunks>(2)->plan.create.total() == 0);
  desk.tell(ChunksCreated{id_of(2), 0, {}});
  desk.tell(LeaseReleased{desk.name(2, 2)});
  // Who allocates by himself needs the room of the pool.
  desk.ask(3, 3, desk.request(kFree - 100));
  CHECK(desk.granted(3));
  CHECK(desk.count<ReleaseChunks>() == 1);
}

TEST_CASE("chunks that cannot be created end in a refusal, and nothing is held") {
  Desk desk(cards({12 * kGiBUnits}));
  gpu::Request backed = desk.request(300);
  backed.kind = LeaseKind::kBacked;
  desk.ask(1, 1, backed);
  desk.tell(ChunksCreated{id_of(1), 0, gpu::extents_of(256)});
  CHECK(desk.refused(1) == Reason::kChunksFailed);
  CHECK(desk.grantable() == kFree);
  CHECK(desk.engine.gpus()[0].pool.free().units() == 44);
}

gpu::Request weights(Units units) {
  gpu::Request made;
  made.kind = LeaseKind::kShared;
  made.min = made.want = units;
  made.model = {4, 4};
  return made;
}

TEST_CASE("shared weights are held once: one loads, others wait for it and map it") {
  Desk desk(cards({12 * kGiBUnits}));
  for (uint64_t who = 1; who <= 4; ++who) desk.ask(who, who, weights(4000));
  desk.tell(ChunksCreated{id_of(1), 0, {}});
  REQUIRE(desk.granted(1));
  CHECK(desk.find<SendGrant>(1)->is_writer);
  CHECK(desk.count<SendGrant>() == 1);
  CHECK(desk.grantable() == kFree - 4000);
  desk.tell(SegmentWritten{desk.name(2, 2)});
  CHECK(desk.count<SendError>() == 1);
  desk.tell(SegmentWritten{desk.name(1, 1)});
  CHECK(desk.count<SendGrant>() == 3);
  CHECK_FALSE(desk.find<SendGrant>(2)->is_writer);
  for (uint64_t who = 1; who <= 4; ++who) desk.tell(LeaseReleased{desk.name(who, who)});
  // Idle, and there for the next; gone when somebody needs the room.
  CHECK(desk.grantable() == kFree - 4000);
  desk.ask(5, 5, weights(4000));
  CHECK(desk.granted(5));
  desk.tell(LeaseReleased{desk.name(5, 5)});
  desk.ask(6, 6, desk.request(kFree));
  CHECK(desk.granted(6));
}

TEST_CASE("when a writer dies the next one loads, but not before it is gone") {
  Desk desk(cards({12 * kGiBUnits}));
  for (uint64_t who = 1; who <= 3; ++who) desk.ask(who, who, weights(4000));
  desk.tell(ChunksCreated{id_of(1), 0, {}});
  desk.tell(ConnectionClosed{1});
  CHECK(desk.count<SendGrant>() == 0);
  desk.tell(ProcessEnded{1});
  REQUIRE(desk.granted(2));
  CHECK(desk.find<SendGrant>(2)->is_writer);
  CHECK(desk.grantable() == kFree - 4000);
  desk.tell(ProcessEnded{2});
  desk.tell(ProcessEnded{3});
  CHECK(desk.grantable() == kFree);
}

TEST_CASE("who was asked while he loaded, and did not yield, may finish loading") {
  Desk desk(cards({12 * kGiBUnits}));
  gpu::Request written = weights(1000);
  gpu::Request own = desk.request(300);
  written.ttl = own.ttl = milliseconds(1000);
  own.peak = 500;
  desk.ask(1, 1, written);
  desk.tell(ChunksCreated{id_of(1), 0, {}});
  desk.ask(2, 2, weights(1000));
  desk.ask(3, 3, own);
  desk.wait(1000);
  for (const uint64_t who : {1, 3}) {
    desk.tell(YieldDone{desk.name(who, who), 0, {}});
    CHECK(desk.asked_to_yield(who));
    desk.tell(YieldDone{desk.name(who, who), 0, {}});
    CHECK(desk.find<RecordDecision>(who)->reason == Reason::kDidNotYield);
  }
  desk.tell(SegmentWritten{desk.name(1, 1)});
  CHECK(desk.granted(2));
  desk.tell(LeaseCommitted{desk.name(3, 3), 300, {}});
  CHECK(desk.count<SendError>() == 0);
  CHECK(desk.grantable() == kFree - 1000 - 300);
}

TEST_CASE("what was taken back for others is free before anything is granted") {
  Desk desk(cards({12 * kGiBUnits, 12 * kGiBUnits}));
  gpu::Request firm = desk.request(kFree - 4000);
  firm.revocability = Revocability::kNever;
  for (const uint64_t who : {1, 2}) {
    gpu::Request segment = weights(4000);
    segment.gpus = firm.gpus = gpu::mask_of(who - 1);
    desk.ask(who, who, segment);
    desk.tell(ChunksCreated{id_of(who), static_cast<GpuIndex>(who - 1), {}});
    desk.tell(SegmentWritten{desk.name(who, who)});
    desk.hold(who + 2, who + 2, firm);
  }
  desk.tell(LeaseReleased{desk.name(2, 2)});  // idle on the second
  desk.sample(0, 2 * kFree);                  // others take more of the first than there was
  desk.sample(0, kFree + 200);
  gpu::Request both = desk.request(100);
  both.kind = LeaseKind::kBacked;
  both.gpu_count = 2;
  desk.ask(5, 5, both);
  desk.wait(31'000);
  desk.tell(LeaseReleased{desk.name(1, 1)});
  const auto at = [&](auto is_wanted) { return std::find_if(desk.actions.begin(), desk.actions.end(), is_wanted); };
  const auto released = at([](const Action& action) {
    const auto* release = std::get_if<ReleaseChunks>(&action);
    return release != nullptr && release->gpu == 0;
  });
  const auto created = at([](const Action& action) { return std::holds_alternative<CreateChunks>(action); });
  REQUIRE(created != desk.actions.end());
  CHECK(released < created);
}

TEST_CASE("who hung up and lives still maps shared weights, so they are not idle") {
  Desk desk(cards({12 * kGiBUnits}));
  desk.ask(1, 1, weights(4000));
  desk.tell(ChunksCreated{id_of(1), 0, {}});
  desk.tell(SegmentWritten{desk.name(1, 1)});
  desk.tell(ConnectionClosed{1});
  desk.ask(2, 2, desk.request(kFree));
  CHECK_FALSE(desk.granted(2));
  desk.tell(ProcessEnded{1});
  CHECK(desk.granted(2));
}

TEST_CASE("after a restart holders keep what they have, and nothing is granted before they are known") {
  Desk before(cards({12 * kGiBUnits}));
  before.hold(1, 1, before.request(5000));
  before.hold(2, 2, before.request(100));
  const uint64_t old_epoch = before.engine.epoch();
  Desk desk(cards({12 * kGiBUnits}), before.journal);
  CHECK(desk.engine.epoch() > old_epoch);
  desk.ask(3, 3, desk.request(100));
  CHECK_FALSE(desk.granted(3));
  desk.tell(LeasePresented{{11, 1, id_of(1), old_epoch}, 4000, {}});
  REQUIRE(desk.granted(1));
  CHECK(desk.find<SendGrant>(1)->epoch == desk.engine.epoch());
  CHECK(desk.find<SendGrant>(1)->units == 4000);                      // what it gave back while nobody listened
  desk.tell(LeasePresented{{12, 1, id_of(1), old_epoch}, 4000, {}});  // twice is once
  CHECK_FALSE(desk.granted(1));
  desk.wait(2999);
  CHECK_FALSE(desk.granted(3));
  desk.wait(1);
  CHECK(desk.granted(3));
  // The one that did not come back holds what it has until its process is gone.
  CHECK(desk.grantable() == kFree - 4000 - 100 - 100);
  desk.tell(ProcessEnded{2});
  CHECK(desk.grantable() == kFree - 4000 - 100);
}

TEST_CASE("a claim that was agreed to and never heard of is made again with the epoch that its holder knows") {
  Desk first(cards({12 * kGiBUnits}));
  first.hold(1, 1, first.request(5000));
  const uint64_t known = first.engine.epoch();
  Desk second(cards({12 * kGiBUnits}), first.journal);
  second.tell(LeasePresented{{11, 1, id_of(1), known}, 5000, {}});
  REQUIRE(second.granted(1));
  Desk third(cards({12 * kGiBUnits}), second.journal);
  third.tell(LeasePresented{{12, 1, id_of(1), known}, 5000, {}});
  CHECK(third.granted(1));
}

TEST_CASE("who gave his lease up before a restart, or does so instead of showing it, is not waited for") {
  Desk before(cards({12 * kGiBUnits}, true));
  before.hold(1, 1, before.request(5000));
  before.hold(2, 2, before.request(100));
  before.tell(LeaseReleased{before.name(1, 1)});
  Desk desk(cards({12 * kGiBUnits}, true), before.journal);
  desk.ask(3, 3, desk.request(100));
  CHECK_FALSE(desk.granted(3));
  desk.tell(LeaseReleased{{12, 2, id_of(2), before.engine.epoch()}});
  CHECK(desk.granted(3));
  CHECK(desk.grantable() == kFree - 5000 - 100 - 100);  // until a sample shows it
  desk.sample(0, 0, {{1, 0}, {2, 0}});
  CHECK(desk.grantable() == kFree - 100);
}

// The third arbiter took what is still held for the process's context, of which up to 600 MiB are let off.
TEST_CASE("what nobody claimed after a restart is not taken for said to be free after another") {
  Desk first(cards({12 * kGiBUnits}, true));
  first.hold(1, 1, first.request(100));
  first.sample(0, 160, {{1, 160}});
  Desk second(cards({12 * kGiBUnits}, true), first.journal);
  second.wait(3000);
  second.tell(LeasePresented{{11, 1, id_of(1), first.engine.epoch()}, 100, {}});  // too late
  CHECK_FALSE(second.granted(1));
  for (const bool is_held : {true, false}) {
    Desk third(cards({12 * kGiBUnits}, true), second.journal);
    third.sample(0, 160, {{1, is_held ? 160 : 0}});
    CHECK(third.engine.entries().contains(id_of(1)) == is_held);
  }
}

TEST_CASE("grants go on as soon as all holders are known, or gone") {
  Desk before(cards({12 * kGiBUnits}));
  before.hold(1, 1, before.request(5000));
  before.hold(2, 2, before.request(100));
  Desk desk(cards({12 * kGiBUnits}), before.journal);
  desk.ask(3, 3, desk.request(100));
  desk.tell(LeasePresented{{11, 1, id_of(1), before.engine.epoch()}, 5000, {}});
  desk.tell(ProcessEnded{2});
  CHECK(desk.granted(3));
}

TEST_CASE("what nobody was told of is free after a restart, and a half-written segment is its writer's to finish") {
  Desk before(cards({12 * kGiBUnits}));
  gpu::Request backed = before.request(300);
  backed.kind = LeaseKind::kBacked;
  before.ask(1, 1, backed);
  before.ask(2, 2, weights(1000));
  before.tell(ChunksCreated{id_of(2), 0, {}});
  before.ask(3, 3, weights(1000));  // waits for the load
  Desk desk(cards({12 * kGiBUnits}), before.journal);
  CHECK(desk.engine.entries().size() == 1);
  desk.tell(LeasePresented{{12, 2, id_of(2), before.engine.epoch()}, 0, {}});
  REQUIRE(desk.granted(2));
  CHECK(desk.find<SendGrant>(2)->is_writer);
  desk.tell(SegmentWritten{{12, 2, id_of(2), desk.engine.epoch()}});
  desk.ask(3, 4, weights(1000));
  CHECK(desk.granted(4));
}

}  // namespace
}  // namespace mesh::arbiter
