#include <doctest/doctest.h>

#include "common/routing/rendezvous.h"
#include "common/routing/retry_budget.h"
#include "tests/unit/engine_bench.h"

namespace mesh::proxy {
namespace {

Outcome gave(Bench& bench, Code code) { return bench.engine->rejector().reject(code, "ocr", "agent", "test", "", ""); }

struct TwoPeers : Bench {
  TwoPeers() {
    tell(PeerConnected{0, wire::Lane::kInteractive});
    tell(PeerConnected{1, wire::Lane::kInteractive});
  }
  void leave(const SendToPeer& call) {
    const CallsLeft::Call left{call.call_id, 0, 1000};
    engine->outbound().note({.batch = {.envelopes = 1}, .calls = {&left, 1}}, now);
  }
};

TEST_CASE("an idempotent call whose outcome nobody knows is sent to another instance, and says that it is the second") {
  TwoPeers bench;
  bench.idempotent = true;
  bench.request("ocr", "body");
  const SendToPeer first = bench.sent();
  CHECK(first.attempt == 1);
  bench.tell(PeerReplied{first.peer, first.call_id, gave(bench, Code::kOutcomeUnknown)});
  const SendToPeer second = bench.sent();
  CHECK(second.peer != first.peer);
  CHECK(second.attempt == 2);
  CHECK(second.payload.body.text() == "body");
  bench.tell(PeerReplied{second.peer, second.call_id, {}});
  CHECK(bench.only_code() == Code::kOk);
  CHECK(bench.engine->counters()[Counter::kRetriesOfIdempotent] == 1);
  const auto* record = bench.engine->outbound().recorder().log().newest(1).at(0);
  CHECK(record->trace.attempts == 2);
  CHECK(record->trace.earlier[0].code == Code::kOutcomeUnknown);
}

TEST_CASE("a call that is not idempotent is never sent again where it may have been executed") {
  TwoPeers bench;
  bench.request("ocr", "body");
  const SendToPeer first = bench.sent();
  bench.tell(PeerReplied{first.peer, first.call_id, gave(bench, Code::kOutcomeUnknown)});
  CHECK(bench.take<SendToPeer>().empty());
  CHECK(bench.only_code() == Code::kOutcomeUnknown);
}

TEST_CASE("an idempotent call goes round the instances twice at most, and never beyond its deadline") {
  TwoPeers bench;
  bench.idempotent = true;
  bench.request("ocr", "body");
  int attempts = 0;
  for (auto sent = bench.take<SendToPeer>(); !sent.empty(); sent = bench.take<SendToPeer>()) {
    ++attempts;
    bench.tell(PeerReplied{sent[0].peer, sent[0].call_id, gave(bench, Code::kOutcomeUnknown)});
  }
  CHECK(attempts == static_cast<int>(limits::attempts_max));
  CHECK(bench.only_code() == Code::kOutcomeUnknown);
  bench.request("ocr", "late", 100);
  const SendToPeer late = bench.sent();
  bench.now += milliseconds(100);
  bench.tell(PeerReplied{late.peer, late.call_id, gave(bench, Code::kOutcomeUnknown)});
  CHECK(bench.take<SendToPeer>().empty());
}

TEST_CASE("retries of calls that left cost tokens, and without any the caller is told what happened") {
  TwoPeers bench;
  bench.config.limits.calls_per_target_max = 1000;
  int retried = 0;
  for (int i = 0; i < 200; ++i) {
    bench.request("ocr", "x");
    const SendToPeer first = bench.sent();
    bench.leave(first);
    bench.tell(PeerReplied{first.peer, first.call_id, gave(bench, Code::kNotSent)});
    const auto second = bench.take<SendToPeer>();
    if (!second.empty()) ++retried, bench.tell(PeerReplied{second[0].peer, second[0].call_id, {}});
  }
  // 30 saved and a tenth of 200.
  CHECK(retried == 50);
  CHECK(bench.engine->counters()[Counter::kRetriesDenied] == 150);
}

TEST_CASE("a call that never left this process is rerouted without a token") {
  TwoPeers bench;
  for (int i = 0; i < 100; ++i) {
    bench.request("ocr", "x");
    const SendToPeer first = bench.sent();
    bench.tell(PeerReplied{first.peer, first.call_id, gave(bench, Code::kNotSent)});
    const SendToPeer second = bench.sent();
    bench.tell(PeerReplied{second.peer, second.call_id, {}});
  }
  CHECK(bench.engine->counters()[Counter::kRetriesDenied] == 0);
}

TEST_CASE("what one instance lost is not sent to another that has as much as it may have") {
  TwoPeers bench;
  bench.config.limits.calls_per_target_max = 1;
  bench.request("ocr", "one");
  const SendToPeer first = bench.sent();
  bench.request("ocr", "two");
  const SendToPeer second = bench.sent();
  REQUIRE(second.peer != first.peer);
  bench.tell(PeerReplied{first.peer, first.call_id, gave(bench, Code::kNotSent)});
  CHECK(bench.take<SendToPeer>().empty());
  CHECK(bench.only_code() == Code::kNotSent);
  bench.request("ocr", "three");
  const SendToPeer third = bench.sent();
  bench.tell(PeerReplied{second.peer, second.call_id, {}});
  CHECK(bench.only_code() == Code::kOk);
  bench.tell(PeerReplied{third.peer, third.call_id, gave(bench, Code::kNotSent)});
  CHECK(bench.sent().peer == second.peer);
}

struct Hedged : TwoPeers {
  Hedged() {
    idempotent = true;
    hedge_ms = 50;
    request("ocr", "body");
    first = sent();
    CHECK(take<SendToPeer>().empty());
    advance(49);
    CHECK(take<SendToPeer>().empty());
    advance(1);
    second = sent();
    CHECK(second.peer != first.peer);
    CHECK(second.attempt == 2);
    CHECK(second.payload.body.text() == "body");
  }
  // All is in order, and nothing is open any more.
  void check_done() {
    CHECK(engine->idle());
    CHECK(engine->outbound().held_bytes() == 0);
    CHECK(engine->audit() == "");
    advance(10'000);
    CHECK(take<ReplyToAgent>().empty());
  }
  SendToPeer first;
  SendToPeer second;
};

TEST_CASE("of two instances that are asked the first answer counts, and the other is told to stop") {
  for (const bool is_hedge_quicker : {true, false}) {
    Hedged bench;
    const SendToPeer& quick = is_hedge_quicker ? bench.second : bench.first;
    const SendToPeer& slow = is_hedge_quicker ? bench.first : bench.second;
    bench.tell(PeerReplied{quick.peer, quick.call_id, {}});
    const auto replies = bench.take<ReplyToAgent>();
    REQUIRE(replies.size() == 1);
    CHECK(replies[0].outcome.code == Code::kOk);
    CHECK(replies[0].path.client == 100);
    const auto cancels = bench.take<CancelAtPeer>();
    REQUIRE(cancels.size() == 1);
    CHECK(cancels[0].call_id == slow.call_id);
    CHECK(bench.engine->counters()[Counter::kHedgesWon] == (is_hedge_quicker ? 1 : 0));
    bench.tell(PeerReplied{slow.peer, slow.call_id, {}});
    bench.check_done();
  }
}

TEST_CASE("when one of two fails the other one goes on, and only the last failure is told") {
  for (const bool is_first_lost : {true, false}) {
    Hedged bench;
    const SendToPeer& lost = is_first_lost ? bench.first : bench.second;
    const SendToPeer& left = is_first_lost ? bench.second : bench.first;
    bench.tell(PeerReplied{lost.peer, lost.call_id, gave(bench, Code::kOutcomeUnknown)});
    CHECK(bench.take<ReplyToAgent>().empty());
    CHECK(bench.engine->audit() == "");
    bench.tell(PeerReplied{left.peer, left.call_id, {}});
    const auto replies = bench.take<ReplyToAgent>();
    REQUIRE(replies.size() == 1);
    CHECK(replies[0].outcome.code == Code::kOk);
    CHECK(replies[0].path.client == 100);
    bench.check_done();
  }
  Hedged both;
  both.tell(PeerReplied{both.first.peer, both.first.call_id, gave(both, Code::kOutcomeUnknown)});
  both.tell(PeerReplied{both.second.peer, both.second.call_id, gave(both, Code::kNotSent)});
  for (auto more = both.take<SendToPeer>(); !more.empty(); more = both.take<SendToPeer>())
    both.tell(PeerReplied{more[0].peer, more[0].call_id, gave(both, Code::kNotSent)});
  CHECK(both.only_code() == Code::kOutcomeUnknown);
  both.check_done();
}

TEST_CASE("of two calls the one that may have been executed decides what is told, also if its time was up first") {
  Hedged bench;
  bench.tell(PeerReplied{bench.first.peer, bench.first.call_id, gave(bench, Code::kDeadline)});
  bench.tell(PeerReplied{bench.second.peer, bench.second.call_id, gave(bench, Code::kNotSent)});
  for (auto more = bench.take<SendToPeer>(); !more.empty(); more = bench.take<SendToPeer>())
    bench.tell(PeerReplied{more[0].peer, more[0].call_id, gave(bench, Code::kNotSent)});
  CHECK(bench.only_code() == Code::kOutcomeUnknown);
  bench.check_done();
}

TEST_CASE("nobody is asked beside another where that would take memory that calls may need") {
  TwoPeers bench;
  bench.config.limits.process_queued_bytes = 150;
  bench.idempotent = true;
  bench.hedge_ms = 50;
  bench.request("ocr", std::string(100, 'x'));
  bench.sent();
  bench.advance(60);
  CHECK(bench.take<SendToPeer>().empty());
  CHECK(bench.engine->outbound().held_bytes() == 100);
}

TEST_CASE("the deadline and a caller that goes end both of two calls") {
  Hedged late;
  late.advance(2000);
  CHECK(late.only_code() == Code::kDeadline);
  late.check_done();
  Hedged gone;
  gone.tell(ClientClosed{100});
  CHECK(gone.take<CancelAtPeer>().size() == 2);
  gone.check_done();
}

TEST_CASE("nobody is asked beside the only instance, one that answered in time, or without a token") {
  TwoPeers bench;
  bench.idempotent = true;
  bench.hedge_ms = 50;
  bench.request("tts", "x");
  bench.request("ocr", "x");
  const SendToPeer only = bench.sent();
  bench.tell(PeerReplied{only.peer, only.call_id, {}});
  bench.advance(60);
  CHECK(bench.take<SendToPeer>().empty());
  int hedged = 0;
  for (int i = 0; i < 200; ++i) {
    bench.request("ocr", "x", 60);
    bench.take<SendToPeer>();
    bench.now += milliseconds(51);
    bench.engine->on_time(bench.now, bench.actions);
    hedged += static_cast<int>(bench.take<SendToPeer>().size());
    bench.advance(100);
  }
  // What was saved, a tenth of the calls, and three a second.
  CHECK(hedged >= 130);
  CHECK(hedged <= 145);
}

TEST_CASE("a retry budget gives a tenth of the calls and three a second, after a burst that is bounded") {
  routing::RetryBudget budget;
  const Instant start{milliseconds(5000)};
  int given = 0;
  while (budget.take(start)) ++given;
  CHECK(given == 30);
  for (int i = 0; i < 20; ++i) budget.on_call();
  CHECK(budget.take(start));
  CHECK(budget.take(start));
  CHECK_FALSE(budget.take(start));
  for (given = 0; budget.take(start + milliseconds(1000));) ++given;
  CHECK(given == 3);
  for (given = 0; budget.take(start + std::chrono::hours(50));) ++given;
  CHECK(given == routing::RetryBudget::kSavedMax);
}

TEST_CASE("a key has the same home whatever order the homes are told in, and only a lost home's keys move") {
  const std::vector<uint64_t> homes = {11, 22, 33};
  const auto home_of = [](uint64_t key, const std::vector<uint64_t>& among) {
    return *std::max_element(among.begin(), among.end(), [&](uint64_t a, uint64_t b) {
      return routing::rendezvous_weight(key, a) < routing::rendezvous_weight(key, b);
    });
  };
  std::map<uint64_t, int> keys_at;
  for (uint64_t key = 0; key < 3000; ++key) {
    const uint64_t home = home_of(key * 0x9E3779B97F4A7C15, homes);
    ++keys_at[home];
    CHECK(home_of(key * 0x9E3779B97F4A7C15, {33, 11, 22}) == home);
    if (home != 22) CHECK(home_of(key * 0x9E3779B97F4A7C15, {11, 33}) == home);
  }
  for (const uint64_t home : homes) CHECK(keys_at[home] > 850);
}

TEST_CASE("calls with a key go to its home and nowhere else, whatever becomes of them") {
  TwoPeers bench;
  bench.idempotent = true;
  bench.key = std::make_shared<const CallKey>(CallKey{"order 7", "a/main/p"});
  bench.request("ocr", "x");
  const SendToPeer first = bench.sent();
  REQUIRE(first.key != nullptr);
  bench.leave(first);
  bench.tell(PeerReplied{first.peer, first.call_id, gave(bench, Code::kOutcomeUnknown)});
  CHECK(bench.only_code() == Code::kOutcomeUnknown);
  for (int i = 0; i < 5; ++i) {
    bench.request("ocr", "x");
    const SendToPeer again = bench.sent();
    CHECK(again.peer == first.peer);
    bench.tell(PeerReplied{again.peer, again.call_id, {}});
    CHECK(bench.only_code() == Code::kOk);
  }
}

TEST_CASE("a peer whose version keeps no keys does not get a call with one, and the caller is told why") {
  TwoPeers bench;
  bench.key = std::make_shared<const CallKey>(CallKey{"order 7", "a/main/p"});
  bench.request("ocr", "x");
  const SendToPeer first = bench.sent();
  bench.tell(PeerLacksKeys{first.peer, first.call_id});
  const auto replies = bench.take<ReplyToAgent>();
  REQUIRE(replies.size() == 1);
  CHECK(replies[0].outcome.code == Code::kNoRoute);
  CHECK(replies[0].outcome.error->rule == "peer_too_old");
}

}  // namespace
}  // namespace mesh::proxy
