#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <map>
#include <string>

#include "common/cache/request.h"
#include "tests/unit/engine_keys.h"

namespace mesh::proxy {
namespace {

// A sidecar whose agent "db" is written to and read from by peers, with the links 1, 2 and 3.
struct Origin : Bench {
  uint64_t last_call = 0;
  Origin() {
    config.agents[0] = {.name = "db", .service = "db", .endpoint = {}};
    std::vector<contract::TagPattern> patterns(1);
    REQUIRE(contract::TagPattern::parse("user:{user}", patterns[0]));
    config.contracts.declare_method("db", "write", {.invalidates = patterns});
    engine.emplace(config);
    tell(AgentConnected{0});
  }
  void lease(LinkId link) { tell(LeaseAsked{link, 9}); }
  // Asked over link 1, and executed.
  void write(int64_t budget_ms = 5000) {
    ask(budget_ms);
    reply();
  }
  void ask(int64_t budget_ms = 5000) {
    tell(PeerRequested{.link = 1,
                       .call_id = ++last_call,
                       .service = "db",
                       .method = "write",
                       .budget = milliseconds(budget_ms),
                       .priority = Priority::kNormal,
                       .payload = {Slice::copy_of(R"({"user":"ann","value":2})"), {}}});
  }
  void reply() {
    const auto delivered = take<DeliverToAgent>();
    REQUIRE(delivered.size() == 1);
    tell(AgentReplied{.agent = 0, .call_id = delivered[0].call_id, .payload = {Slice::copy_of("done"), {}}});
  }
  size_t replies() { return take<SendReply>().size(); }
  void hear(const TellPurge& told) { tell(PurgeHeard{told.link, told.token}); }
};

TEST_CASE("who has written is answered at once if nobody keeps anything") {
  Origin bench;
  bench.write();
  CHECK(bench.replies() == 1);
}

TEST_CASE("who has written is answered when all who may keep something have heard of it") {
  Origin bench;
  bench.lease(2);
  bench.lease(3);
  bench.take<GrantLease>();
  bench.write();
  const auto told = bench.take<TellPurge>();
  REQUIRE(told.size() == 2);
  CHECK(*told[0].names == std::vector<uint64_t>{cache::name_hash("db", "user:ann")});
  bench.hear(told[0]);
  bench.hear(told[0]);  // twice is once
  CHECK(bench.replies() == 0);
  CHECK_FALSE(bench.engine->idle());
  bench.hear(told[1]);
  CHECK(bench.replies() == 1);
  CHECK(bench.engine->idle());
}

TEST_CASE("who does not answer is waited for until his lease has run out, connected or not") {
  Origin bench;
  bench.lease(2);
  bench.advance(500);
  bench.tell(LinkClosed{2});
  bench.write();
  bench.advance(limits::lease_ms - 501);
  CHECK(bench.replies() == 0);
  bench.advance(1);
  CHECK(bench.replies() == 1);
}

TEST_CASE("who gives his lease back is not waited for") {
  Origin bench;
  bench.lease(2);
  bench.write();
  CHECK(bench.replies() == 0);
  bench.tell(LeaseAsked{2, 0});
  CHECK(bench.replies() == 1);
  bench.take<TellPurge>();
  bench.write();
  CHECK(bench.replies() == 1);
}

TEST_CASE("leases that a process before gave are waited for") {
  Origin bench;
  bench.engine->begin(1234, false, bench.now, bench.actions);
  bench.advance(100);
  bench.write();
  bench.advance(limits::lease_ms - 101);
  CHECK(bench.replies() == 0);
  bench.advance(1);
  CHECK(bench.replies() == 1);
  bench.write();
  CHECK(bench.replies() == 1);
}

TEST_CASE("who answers to a round of the process before has said nothing of this one's") {
  Origin bench;
  bench.lease(2);
  bench.write();
  const TellPurge before = bench.take<TellPurge>().at(0);
  bench.engine.emplace(bench.config);
  bench.engine->begin(1234, false, bench.now - milliseconds(limits::lease_ms), bench.actions);
  bench.tell(AgentConnected{0});
  bench.lease(2);
  bench.write();
  const TellPurge own = bench.take<TellPurge>().at(0);
  bench.hear(before);
  CHECK(bench.replies() == 0);
  bench.hear(own);
  CHECK(bench.replies() == 1);
}

TEST_CASE("what the agent certainly did not execute makes nothing wrong") {
  Origin bench;
  bench.lease(2);
  bench.ask();
  const auto delivered = bench.take<DeliverToAgent>();
  REQUIRE(delivered.size() == 1);
  bench.tell(AgentLost{0, {delivered[0].call_id}});
  CHECK(bench.take<TellPurge>().empty());
  CHECK(bench.replies() == 1);
}

TEST_CASE("what the agent executes when nobody waits any more makes wrong when it is known to be executed") {
  Origin bench;
  bench.lease(2);
  bench.ask(200);
  const auto delivered = bench.take<DeliverToAgent>();
  bench.advance(200);
  CHECK(bench.replies() == 1);  // DEADLINE
  bench.take<TellPurge>();
  bench.tell(AgentReplied{.agent = 0, .call_id = delivered.at(0).call_id, .payload = {Slice::copy_of("done"), {}}});
  CHECK(bench.take<TellPurge>().size() == 1);
}

TEST_CASE("an agent that works on many at once makes wrong also what it executes too late") {
  Origin bench;
  bench.config.agents[0].socket = AgentSocket::kRouter;
  bench.engine.emplace(bench.config);
  bench.tell(AgentConnected{0});
  bench.lease(2);
  bench.ask(200);
  const auto delivered = bench.take<DeliverToAgent>();
  bench.advance(200);
  CHECK(bench.replies() == 1);  // DEADLINE
  bench.tell(AgentReplied{.agent = 0, .call_id = delivered.at(0).call_id, .payload = {Slice::copy_of("done"), {}}});
  CHECK(bench.take<TellPurge>().size() == 1);
}

TEST_CASE("each purge has a position of its own, and a lease is given with the last") {
  Origin bench;
  bench.lease(2);
  const uint64_t before = bench.take<GrantLease>().at(0).position;
  bench.write();
  CHECK(bench.take<TellPurge>().at(0).position == before + 1);
  bench.lease(3);
  CHECK(bench.take<GrantLease>().at(0).position == before + 1);
}

TEST_CASE("a peer that asks for a purge is told when nobody gives any more what it named") {
  Origin bench;
  bench.lease(2);
  const std::array<uint64_t, 1> names = {cache::name_hash("db", "")};
  bench.tell(PurgeAsked{1, 77, names});
  const auto told = bench.take<TellPurge>();
  REQUIRE(told.size() == 1);
  CHECK(bench.take<ConfirmPurge>().empty());
  bench.hear(told[0]);
  CHECK(bench.take<ConfirmPurge>().at(0).token == 77);
}

TEST_CASE("a write with an idempotency key is answered when all have heard of it, too") {
  Origin bench;
  bench.lease(2);
  const wire::Delivery delivery{.key = "k", .caller = "a/main/p"};
  bench.tell(PeerRequested{.link = 1,
                           .call_id = 5,
                           .service = "db",
                           .method = "write",
                           .budget = milliseconds(5000),
                           .priority = Priority::kNormal,
                           .payload = {Slice::copy_of(R"({"user":"ann"})"), {}},
                           .delivery = &delivery});
  bench.reply();
  const auto told = bench.take<TellPurge>();
  REQUIRE(told.size() == 1);
  CHECK(bench.replies() == 0);
  bench.hear(told[0]);
  CHECK(bench.replies() == 1);
}

// Writes of the one key "k", of a method whose results are written down or are not.
struct KeyedOrigin : Origin {
  std::map<wire::Digest, std::string> disk;
  explicit KeyedOrigin(bool is_durable) {
    contract::Declaration write = {.invalidates = std::vector<contract::TagPattern>(1)};
    write.durable = is_durable;
    config.contracts.declare_method("db", "write", write);
    start();
  }
  // Of what lay on disk.
  void start() {
    engine.emplace(config);
    use_records(*this, disk);
    tell(AgentConnected{0});
  }
  void ask_over(LinkId link) {
    const wire::Delivery delivery{.key = "k", .caller = "a/main/p"};
    tell(PeerRequested{.link = link,
                       .call_id = ++last_call,
                       .service = "db",
                       .method = "write",
                       .budget = milliseconds(500),
                       .priority = Priority::kNormal,
                       .payload = {Slice::copy_of("x"), {}},
                       .delivery = &delivery});
    write_down();
  }
  void write_down() {
    for (PutRecord& put : take<PutRecord>()) {
      std::string value;
      for (const Slice& slice : put.value) value += slice.text();
      disk[put.key] = value;
      tell(RecordStored{put.ticket, true});
    }
  }
  void read() {
    for (const LoadRecord& load : take<LoadRecord>())
      tell(RecordLoaded{load.ticket, Slice::copy_of(disk.at(load.key))});
  }
  bool is_answered(LinkId link) {
    const auto replies = take<SendReply>();
    return std::any_of(replies.begin(), replies.end(), [&](const SendReply& reply) { return reply.link == link; });
  }
};

TEST_CASE("who asks again with the key of a write that ended is told no sooner than all have heard of it") {
  for (const bool is_durable : {false, true}) {
    KeyedOrigin bench(is_durable);
    bench.lease(2);
    bench.ask_over(1);
    bench.reply();
    bench.write_down();
    bench.tell(LinkClosed{1});
    bench.ask_over(3);
    bench.read();
    CHECK_FALSE(bench.is_answered(3));
    for (const TellPurge& told : bench.take<TellPurge>()) bench.hear(told);
    CHECK(bench.is_answered(3));
    CHECK(bench.take<DeliverToAgent>().empty());
    CHECK(bench.engine->idle());
  }
}

TEST_CASE("who asks again with the key of a write of the process before waits for that one's leases to run out") {
  KeyedOrigin bench(true);
  bench.ask_over(1);
  bench.reply();
  bench.write_down();
  CHECK(bench.is_answered(1));
  bench.start();
  bench.engine->begin(1234, false, bench.now, bench.actions);
  bench.ask_over(3);
  bench.read();
  bench.advance(limits::lease_ms - 1);
  CHECK_FALSE(bench.is_answered(3));
  bench.advance(1);
  CHECK(bench.is_answered(3));
}

TEST_CASE(
    "who asks again with the key of a write of which all have heard is told at once, and nobody hears of it again") {
  KeyedOrigin bench(false);
  bench.lease(2);
  bench.ask_over(1);
  bench.reply();
  for (const TellPurge& told : bench.take<TellPurge>()) bench.hear(told);
  bench.ask_over(3);
  CHECK(bench.is_answered(3));
  CHECK(bench.take<TellPurge>().empty());
}

TEST_CASE("who waits for a result to be written down or read is told of it also if by then all have heard of it") {
  KeyedOrigin bench(true);
  bench.lease(2);
  bench.ask_over(1);
  bench.reply();
  for (const TellPurge& told : bench.take<TellPurge>()) bench.hear(told);
  bench.write_down();
  CHECK(bench.is_answered(1));
  bench.tell(PurgeAsked{1, 77, {}});  // for all that is known here it may be the round of the write
  bench.ask_over(3);
  for (const TellPurge& told : bench.take<TellPurge>()) bench.hear(told);
  bench.read();
  CHECK(bench.is_answered(3));
  CHECK(bench.engine->idle());
}

}  // namespace
}  // namespace mesh::proxy
