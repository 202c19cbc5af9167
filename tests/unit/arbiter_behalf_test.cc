// Leases that one process holds for another, which uses the memory.
#include "tests/unit/arbiter_desk.h"

namespace mesh::arbiter {
namespace {

using gpu::LeaseState;
using gpu::Revocability;

constexpr Units kFree = 12 * kGiBUnits - gpu::bounds::emergency_units;  // of a card of 12 GiB

// Process `who` asks for `used_by`.
void ask_for(Desk& desk, uint64_t who, uint64_t used_by, uint64_t number, Units units) {
  desk.tell(LeaseAsked{who, who, id_of(number), desk.request(units), {}, used_by});
}

TEST_CASE("what a process uses is held against all leases that were made for it, and counts once") {
  Desk desk(cards({12 * kGiBUnits}, true));
  ask_for(desk, 1, 5, 1, 100);
  ask_for(desk, 2, 5, 2, 200);
  ask_for(desk, 5, 0, 3, 300);
  for (const uint64_t number : {1, 2, 3}) CHECK(desk.engine.entries().at(id_of(number)).lease.used_by == 5);
  desk.sample(0, 660, {{1, 0}, {2, 0}, {5, 660}});
  CHECK(desk.engine.gpus()[0].ledger.foreign() == 0);
  CHECK(desk.engine.gpus()[0].ledger.contexts() == 60);
  CHECK(desk.grantable() == kFree - 660);
}

TEST_CASE(
    "who uses more than was leased for him gets no more through anybody, and others get it from the same holder") {
  Desk desk(cards({12 * kGiBUnits}, true));
  ask_for(desk, 1, 5, 1, 100);
  desk.sample(0, 100, {{1, 0}, {5, 100}});
  for (int i = 0; i < 2; ++i) desk.sample(0, 900, {{1, 0}, {5, 900}});
  for (const uint64_t who : {1, 5}) {
    ask_for(desk, who, 5, 10 + who, 10);
    CHECK(desk.refused(10 + who) == Reason::kPoliced);
  }
  ask_for(desk, 1, 6, 20, 10);
  CHECK(desk.granted(20));
}

TEST_CASE("a lease ends with the process it was made for, and whoever waits for it hears of it") {
  Desk desk(cards({12 * kGiBUnits}, true));
  ask_for(desk, 1, 5, 1, 100);
  ask_for(desk, 1, 6, 2, kFree - 100);
  ask_for(desk, 1, 5, 3, 200);
  CHECK_FALSE(desk.granted(3));
  desk.tell(ProcessEnded{5});
  CHECK(desk.refused(3) == Reason::kProcessEnded);
  CHECK(desk.grantable() == 100);
  desk.tell(LeaseRenewed{desk.name(1, 1)});
  CHECK(desk.find<SendError>(1)->error.rule == "lease_unknown");
  CHECK(desk.engine.entries().contains(id_of(2)));
}

TEST_CASE("when who leased it for another is gone it is held until that one has nothing any more") {
  for (const bool ends : {false, true}) {
    Desk desk(cards({12 * kGiBUnits}, true));
    ask_for(desk, 1, 5, 1, 1000);
    desk.sample(0, 1060, {{1, 0}, {5, 1060}});
    desk.tell(ConnectionClosed{1});
    desk.tell(ProcessEnded{1});
    CHECK(desk.engine.entries().at(id_of(1)).lease.state == LeaseState::kDying);
    for (int i = 0; i < 10; ++i) {
      desk.wait(1000);
      desk.sample(0, 1060, {{5, 1060}});
    }
    CHECK(desk.engine.gpus()[0].ledger.leased() == 1000);
    CHECK(desk.engine.gpus()[0].ledger.foreign() == 0);
    if (ends) desk.tell(ProcessEnded{5});
    if (!ends) desk.sample(0, 60, {{5, 60}});
    CHECK(desk.engine.gpus()[0].ledger.leased() == 0);
  }
}

TEST_CASE("where samples tell no processes apart it is held until the process ends that it was made for") {
  Desk desk(cards({12 * kGiBUnits}));
  ask_for(desk, 1, 5, 1, 1000);
  desk.tell(ProcessEnded{1});
  desk.wait(60'000);
  CHECK(desk.grantable() == kFree - 1000);
  desk.tell(ProcessEnded{5});
  CHECK(desk.grantable() == kFree);
}

TEST_CASE("what was given back for another is looked for however long that one takes, and then it is free") {
  Desk desk(cards({12 * kGiBUnits}, true));
  ask_for(desk, 1, 5, 1, 1000);
  desk.sample(0, 1060, {{1, 0}, {5, 1060}});
  desk.tell(LeaseReleased{desk.name(1, 1)});
  for (int i = 0; i < 10; ++i) {
    desk.wait(1000);
    desk.sample(0, 1060, {{1, 0}, {5, 1060}});
    CHECK(desk.count<RecordDecision>() == 0);  // nor is it using too much
  }
  CHECK(desk.grantable() == kFree - 1060);
  desk.sample(0, 60, {{1, 0}, {5, 60}});
  CHECK(desk.grantable() == kFree - 60);
}

TEST_CASE("who yields for another late is looked for, and others are asked for the one that waits") {
  Desk desk(cards({12 * kGiBUnits}, true));
  const Units half = kFree / 2 - 100;
  for (const uint64_t number : {1, 2}) {
    ask_for(desk, 1, 4 + number, number, half);
    desk.tell(LeaseCommitted{desk.name(1, number), half, {}});
  }
  desk.sample(0, 2 * half + 120, {{1, 0}, {5, half + 60}, {6, half + 60}});
  desk.wait(60'000);
  ask_for(desk, 2, 7, 3, half);
  const uint64_t first = desk.asked_to_yield(1) ? 1 : 2;
  REQUIRE(desk.asked_to_yield(first));
  desk.tell(LeaseReleased{desk.name(1, first)});
  bool is_other_asked = false;
  for (int i = 0; i < 100; ++i) {
    desk.wait(100);
    is_other_asked = is_other_asked || desk.asked_to_yield(3 - first);
    desk.sample(0, 2 * half + 120, {{1, 0}, {5, half + 60}, {6, half + 60}});
    is_other_asked = is_other_asked || desk.asked_to_yield(3 - first);
  }
  CHECK(is_other_asked);
  CHECK(desk.engine.entries().at(id_of(first)).unseen == half);  // however late it is
  desk.sample(0, half + 120, {{1, 0}, {5, first == 1 ? 60 : half + 60}, {6, first == 1 ? half + 60 : 60}});
  CHECK(desk.granted(3));
}

TEST_CASE("what was given back for a process does not hide in what is leased for it and not loaded yet") {
  for (const bool is_loaded : {false, true}) {
    Desk desk(cards({12 * kGiBUnits}, true));
    ask_for(desk, 1, 5, 1, 2000);
    desk.tell(LeaseCommitted{desk.name(1, 1), 2000, {}});
    desk.sample(0, 2060, {{1, 0}, {5, 2060}});
    desk.tell(LeaseReleased{desk.name(1, 1)});
    ask_for(desk, 1, 5, 2, 2000);
    REQUIRE(desk.granted(2));
    if (is_loaded) desk.tell(LeaseCommitted{desk.name(1, 2), 2000, {}});
    desk.sample(0, 2060, {{1, 0}, {5, 2060}});
    CHECK(desk.grantable() == kFree - 60 - (is_loaded ? 2000 : 4000));
  }
}

TEST_CASE("what a process has still of a model is leased for it again, though there is no room for a second one") {
  for (const bool is_restarted : {false, true}) {
    Desk desk(cards({12 * kGiBUnits}, true));
    gpu::Request request = desk.request(kFree - 500);
    request.model = {1, 2};
    desk.tell(LeaseAsked{1, 1, id_of(1), request, {}, 5});
    desk.tell(LeaseCommitted{desk.name(1, 1), kFree - 500, {}});
    desk.sample(0, kFree - 440, {{1, 0}, {5, kFree - 440}});
    if (is_restarted) {
      desk.tell(ConnectionClosed{1});
      desk.tell(ProcessEnded{1});
    } else {
      desk.tell(LeaseReleased{desk.name(1, 1)});
    }
    request.model = {1, 3};
    desk.tell(LeaseAsked{2, 2, id_of(2), request, {}, 5});
    CHECK_FALSE(desk.granted(2));  // another model is other memory
    desk.tell(LeaseReleased{desk.name(2, 2)});
    request.model = {1, 2};
    desk.tell(LeaseAsked{2, 2, id_of(3), request, {}, 5});
    CHECK(desk.granted(3));
    CHECK_FALSE(desk.engine.entries().contains(id_of(1)));
    CHECK(desk.grantable() == kFree - 60 - (kFree - 500));
  }
}

TEST_CASE("a process is not asked for its own sake, whoever leased for it, and others of its holder are") {
  Desk desk(cards({12 * kGiBUnits}));
  ask_for(desk, 1, 5, 1, 3000);
  ask_for(desk, 1, 6, 2, kFree - 3000);
  for (const uint64_t number : {1, 2}) {
    desk.tell(LeaseCommitted{desk.name(1, number), desk.engine.entries().at(id_of(number)).lease.units, {}});
  }
  ask_for(desk, 2, 5, 3, 2500);
  CHECK_FALSE(desk.asked_to_yield(1));
  CHECK(desk.asked_to_yield(2));
}

TEST_CASE("who agreed to be ended is ended himself, not who leased for him") {
  Desk desk(cards({12 * kGiBUnits}));
  gpu::Request mortal = desk.request(kFree);
  mortal.revocability = Revocability::kKill;
  desk.tell(LeaseAsked{1, 1, id_of(1), mortal, {}, 5});
  desk.tell(LeaseCommitted{desk.name(1, 1), kFree, {}});
  desk.ask(2, 2, desk.request(100));
  desk.wait(3500);
  REQUIRE(desk.count<SignalProcess>() == 2);
  for (const Action& action : desk.actions) {
    if (const auto* signal = std::get_if<SignalProcess>(&action)) CHECK(signal->process == 5);
  }
}

TEST_CASE("what is given back while it is being claimed is given back") {
  Desk before(cards({12 * kGiBUnits}, true));
  ask_for(before, 1, 5, 1, 1000);
  Desk desk(cards({12 * kGiBUnits}, true), before.journal);
  const LeaseName as_before{11, 1, id_of(1), before.engine.epoch()};
  desk.tell(LeasePresented{as_before, 1000, {}});
  REQUIRE(desk.granted(1));
  desk.tell(LeaseReleased{as_before});  // it has not heard yet what it is called now
  CHECK(desk.find<SendError>(1) == nullptr);
  desk.sample(0, 0, {{1, 0}, {5, 0}});
  CHECK(desk.engine.entries().empty());
}

TEST_CASE("after a restart both are watched, who leased it shows it, and it ends with whom it was made for") {
  Desk before(cards({12 * kGiBUnits}, true));
  ask_for(before, 1, 5, 1, 1000);
  ask_for(before, 1, 6, 2, 2000);
  ask_for(before, 2, 6, 3, 500);
  Actions out;
  Engine watching(cards({12 * kGiBUnits}, true));
  watching.begin(before.journal, before.now, out);
  std::vector<ProcessId> watched;
  for (const Action& action : out) {
    if (const auto* watch = std::get_if<WatchProcess>(&action)) watched.push_back(watch->process);
  }
  CHECK(watched == std::vector<ProcessId>{1, 2, 5, 6});
  Desk desk(cards({12 * kGiBUnits}, true), before.journal);
  for (const uint64_t number : {1, 2}) {
    desk.tell(LeasePresented{{11, 1, id_of(number), before.engine.epoch()}, static_cast<Units>(number) * 1000, {}});
    CHECK(desk.granted(number));
  }
  desk.tell(ProcessEnded{2});  // before it came back
  desk.sample(0, 3500, {{1, 0}, {5, 1000}, {6, 2500}});
  CHECK(desk.grantable() == kFree - 3500);
  desk.tell(ProcessEnded{6});
  CHECK(desk.engine.entries().size() == 1);
}

}  // namespace
}  // namespace mesh::arbiter
