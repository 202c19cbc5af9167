#include <doctest/doctest.h>

#include <array>

#include "common/cache/request.h"
#include "tests/unit/engine_bench.h"

namespace mesh::proxy {
namespace {

// A sidecar that keeps the replies of "ocr", which the peers b and c serve.
struct Keeper : Bench {
  contract::CacheTerms terms;
  explicit Keeper(bool has_writes = false, bool offers_leases = true) {
    terms.ttl_ms = 600'000;
    cache = &terms;
    if (has_writes) {
      config.contracts.declare_method("ocr", "forget", {.invalidates = std::vector<contract::TagPattern>(1)});
      engine.emplace(config);
    }
    tell(PeerConnected{0, wire::Lane::kInteractive, offers_leases});
    tell(PeerConnected{1, wire::Lane::kInteractive, offers_leases});
  }
  // Both peers tell how often something became wrong there.
  void grant(uint64_t first, uint64_t second) {
    const std::array<uint64_t, 2> positions = {first, second};
    for (const AskLease& ask : take<AskLease>()) tell(PeerLeased{ask.peer, ask.token, positions[ask.peer]});
  }
  // The reply to "x" is kept, which b gave.
  void warm() {
    request("ocr", "x");
    grant(70, 80);
    const SendToPeer call = sent();
    REQUIRE(call.peer == 0);
    answer(call, "old");
    CHECK(bodies() == "old;");
  }
  void answer(const SendToPeer& call, std::string_view body) {
    Outcome outcome;
    outcome.payload.body = Slice::copy_of(body);
    tell(PeerReplied{call.peer, call.call_id, std::move(outcome)});
  }
  // Of all replies that were given, each with a semicolon.
  std::string bodies() {
    std::string all;
    for (const ReplyToAgent& reply : take<ReplyToAgent>()) all += std::string(reply.outcome.payload.body.text()) + ";";
    return all;
  }
  void purge(PeerIndex peer, uint64_t position, std::string_view service) {
    const std::array<uint64_t, 1> names = {cache::name_hash(service, "")};
    tell(PeerPurged{peer, 5, position, false, names});
  }
};

TEST_CASE("what is kept is given without a word to anybody for as long as the lease runs") {
  Keeper bench;
  bench.warm();
  bench.advance(300);
  bench.request("ocr", "x");
  CHECK(bench.bodies() == "old;");
  CHECK(bench.actions.empty());
}

TEST_CASE("a lease that is in use is renewed before it runs out, once, and nobody waits for that") {
  Keeper bench;
  bench.warm();
  bench.advance(500);
  for (int i = 0; i < 3; ++i) bench.request("ocr", "x");
  CHECK(bench.bodies() == "old;old;old;");
  CHECK(bench.take<AskLease>().size() == 2);  // of both peers
}

TEST_CASE("behind the end of the lease what is kept is given once nothing was missed, and not before") {
  Keeper bench;
  bench.warm();
  bench.advance(limits::lease_ms);
  for (int i = 0; i < 3; ++i) bench.request("ocr", "x");
  CHECK(bench.bodies().empty());
  CHECK(bench.take<SendToPeer>().empty());
  bench.grant(70, 80);
  CHECK(bench.bodies() == "old;old;old;");
  CHECK(bench.take<SendToPeer>().empty());
}

TEST_CASE("if something was missed meanwhile, nothing of before is given") {
  Keeper bench;
  bench.warm();
  bench.advance(limits::lease_ms);
  bench.request("ocr", "x");
  bench.grant(71, 80);
  CHECK(bench.bodies().empty());
  bench.answer(bench.sent(), "new");
  CHECK(bench.bodies() == "new;");
  bench.request("ocr", "x");
  CHECK(bench.bodies() == "new;");
}

TEST_CASE("who does not say within 50 ms whether something was missed is not waited for") {
  Keeper bench;
  bench.warm();
  bench.advance(limits::lease_ms);
  bench.request("ocr", "x");
  REQUIRE(bench.engine->next_deadline() <= bench.now + milliseconds(limits::lease_wait_ms));
  bench.advance(limits::lease_wait_ms);
  bench.answer(bench.sent(), "new");
  CHECK(bench.bodies() == "new;");
}

TEST_CASE("a lease ends when it ends, whether or not its connection does before") {
  Keeper bench;
  bench.warm();
  bench.tell(PeerLost{0, wire::Lane::kInteractive, {}, {}});
  bench.advance(500);
  bench.request("ocr", "x");
  CHECK(bench.bodies() == "old;");
  bench.advance(limits::lease_ms);
  bench.request("ocr", "x");
  CHECK(bench.bodies().empty());
}

TEST_CASE("what a peer says became wrong is wrong at once, also what is under way, and the peer hears of it") {
  Keeper bench;
  bench.warm();
  bench.request("ocr", "y");
  const SendToPeer under_way = bench.sent();
  bench.purge(0, 71, "ocr");
  const auto heard = bench.take<HearPurge>();
  REQUIRE(heard.size() == 1);
  CHECK(heard[0].token == 5);
  bench.answer(under_way, "of before");
  CHECK(bench.bodies() == "of before;");  // who asked before may have it
  bench.request("ocr", "y");
  bench.request("ocr", "x");
  CHECK(bench.bodies().empty());
  CHECK(bench.take<SendToPeer>().size() == 2);
}

TEST_CASE("a purge too many between two that were told makes all of the peer's services wrong") {
  Keeper bench;
  bench.warm();
  bench.purge(0, 72, "something else");
  bench.request("ocr", "x");
  CHECK(bench.take<SendToPeer>().size() == 1);
}

TEST_CASE("of a peer that tells nobody what becomes wrong nothing is kept") {
  Keeper bench(false, false);
  bench.request("ocr", "x");
  CHECK(bench.take<AskLease>().empty());
  bench.answer(bench.sent(), "reply");
  bench.take<ReplyToAgent>();
  bench.request("ocr", "x");
  CHECK(bench.take<SendToPeer>().size() == 1);
}

TEST_CASE("where no method writes only who gave the reply need be heard of, else all who execute writes") {
  for (const bool has_writes : {false, true}) {
    Keeper bench(has_writes);
    bench.warm();
    bench.tell(PeerLost{1, wire::Lane::kInteractive, {}, {}});
    bench.advance(limits::lease_ms);
    bench.request("ocr", "x");
    bench.grant(70, 80);
    CHECK(bench.bodies() == (has_writes ? "" : "old;"));
    CHECK(bench.take<SendToPeer>().size() == (has_writes ? 1 : 0));
  }
}

TEST_CASE("leases are renewed while a fetch takes long, so that what is kept can be given if it fails") {
  Keeper bench;
  bench.terms.ttl_ms = 100;
  bench.terms.stale_if_error_ms = 60'000;
  bench.warm();
  bench.advance(200);
  bench.request("ocr", "x", 4000);
  bench.grant(70, 80);
  const SendToPeer call = bench.sent();
  for (int i = 0; i < 30; ++i) {
    bench.advance(100);
    bench.grant(70, 80);
  }
  Outcome failed;
  failed.code = Code::kDeadline;
  failed.error = std::make_unique<Error>();
  bench.tell(PeerReplied{call.peer, call.call_id, std::move(failed)});
  CHECK(bench.bodies() == "old;");
}

TEST_CASE("who asks when no lease is left waits for no answer that may be older than a write that he was told of") {
  Keeper bench;
  bench.warm();
  bench.request("ocr", "y", 5000);
  const SendToPeer early = bench.sent();
  bench.advance(limits::lease_ms);
  bench.tell(PeerLost{0, wire::Lane::kBulk, {}, {}});
  bench.request("ocr", "y", 5000);
  bench.advance(limits::lease_wait_ms);  // nobody answers
  const SendToPeer late = bench.sent();
  bench.answer(early, "of before");
  CHECK(bench.bodies() == "of before;");  // who asked then
  bench.answer(late, "of now");
  CHECK(bench.bodies() == "of now;");
}

TEST_CASE("who asks before the first lease is there waits for what was asked behind the question for it") {
  Keeper bench;
  bench.request("ocr", "y", 5000);
  const SendToPeer call = bench.sent();
  bench.request("ocr", "y", 5000);
  CHECK(bench.take<SendToPeer>().empty());
  bench.answer(call, "for both");
  CHECK(bench.bodies() == "for both;for both;");
}

TEST_CASE("a lease that is wanted while there is no connection is asked for before the calls that wait for it leave") {
  Keeper bench;
  bench.tell(PeerLost{0, wire::Lane::kInteractive, {}, {}});
  bench.tell(PeerLost{1, wire::Lane::kInteractive, {}, {}});
  bench.request("ocr", "x");
  const SendToPeer call = bench.sent();
  CHECK(bench.take<AskLease>().empty());
  bench.tell(PeerConnected{call.peer, wire::Lane::kInteractive, true});
  CHECK(bench.take<AskLease>().size() == 1);  // it leaves before the call, which waits for the end of the turn
}

TEST_CASE("who drains gives back all leases") {
  Keeper keeper;
  keeper.warm();
  keeper.tell(DrainRequested{});
  const auto given = keeper.take<AskLease>();
  REQUIRE(given.size() == 2);
  CHECK(given[0].token == 0);
}

TEST_CASE(
    "what one instance gave while another's lease had lapsed is wrong if something was missed of that other one") {
  Keeper bench(true);
  bench.warm();
  bench.advance(limits::lease_ms / 2);
  bench.request("ocr", "y");  // under two leases, and both are asked for anew
  const SendToPeer call = bench.sent();
  const auto asked = bench.take<AskLease>();
  REQUIRE(asked.size() == 2);
  bench.answer(call, "before the write");
  CHECK(bench.bodies() == "before the write;");
  bench.advance(limits::lease_ms / 2);
  for (const AskLease& ask : asked) bench.tell(PeerLeased{ask.peer, ask.token, ask.peer == call.peer ? 70U : 81U});
  bench.request("ocr", "y");
  bench.grant(70, 81);
  CHECK(bench.bodies().empty());
  CHECK(bench.take<SendToPeer>().size() == 1);
}

// A large body overtakes the question, as it has a connection of its own.
TEST_CASE("what was asked on another connection while a lease was asked for is wrong if something was missed by then") {
  for (const uint64_t position : {70, 71}) {
    Keeper bench;
    const std::string large(limits::bulk_body_bytes + 1, 'x');
    bench.warm();
    bench.advance(limits::lease_renewal_ms);
    bench.request("ocr", large);
    const SendToPeer call = bench.sent();
    const auto asked = bench.take<AskLease>();
    REQUIRE(call.peer == 0);
    REQUIRE(asked.size() == 2);
    bench.answer(call, "large");
    CHECK(bench.bodies() == "large;");
    bench.request("ocr", large);
    CHECK(bench.bodies() == "large;");  // the lease of before still runs
    bench.advance(limits::lease_ms);
    for (const AskLease& ask : asked) bench.tell(PeerLeased{ask.peer, ask.token, ask.peer == 0 ? position : 80});
    bench.request("ocr", large);
    bench.grant(position, 80);
    CHECK(bench.bodies() == (position == 70 ? "large;" : ""));
    CHECK(bench.take<SendToPeer>().size() == (position == 70 ? 0 : 1));
  }
}

}  // namespace
}  // namespace mesh::proxy
