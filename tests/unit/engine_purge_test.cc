#include <doctest/doctest.h>

#include <algorithm>
#include <array>

#include "tests/unit/engine_bench.h"

namespace mesh::proxy {
namespace {

const std::string kOcr = R"({"action":"purge","service":"ocr"})";

// Whom a purge is ordered of: "ocr" is served by the peers b and c, "tts" here.
struct Orderer : Bench {
  uint64_t last_ticket = 0;
  explicit Orderer(bool is_connected = true) {
    if (is_connected) connect(0), connect(1);
  }
  void connect(PeerIndex peer, bool offers_leases = true) {
    tell(PeerConnected{peer, wire::Lane::kInteractive, offers_leases});
  }
  void order(std::string_view json) {
    auto what = read_purge_spec(json);
    REQUIRE(what);
    tell(PurgeWanted{++last_ticket, std::move(*what)});
  }
  void confirm_all() {
    for (const AskPurge& ask : take<AskPurge>()) tell(PurgeConfirmed{ask.peer, ask.token});
  }
  // How orders ended: "purged", or who has not confirmed.
  std::string ended() {
    std::string all;
    for (const PurgeDone& done : take<PurgeDone>()) {
      if (done.outcome.code == Code::kOk) {
        all += "purged;";
        continue;
      }
      CHECK(done.outcome.code == Code::kOutcomeUnknown);
      for (const std::string& name : done.outcome.error->not_confirmed) all += "not " + name + ";";
    }
    return all;
  }
};

TEST_CASE("a purge is done once every peer that serves it has confirmed, and not before") {
  Orderer bench;
  bench.order(kOcr);
  const auto asks = bench.take<AskPurge>();
  REQUIRE(asks.size() == 2);
  CHECK(asks[0].names == std::vector<uint64_t>{cache::name_hash("ocr", "")});
  bench.tell(PurgeConfirmed{asks[0].peer, asks[0].token});
  bench.tell(PurgeConfirmed{asks[0].peer, asks[0].token});
  bench.tell(PurgeConfirmed{asks[0].peer, asks[1].token});
  CHECK(bench.ended().empty());
  CHECK_FALSE(bench.engine->idle());
  bench.tell(PurgeConfirmed{asks[1].peer, asks[1].token});
  CHECK(bench.ended() == "purged;");
  CHECK(bench.engine->idle());
}

TEST_CASE("of what agents here serve, a purge waits for whoever holds a lease on it") {
  Orderer bench;
  bench.engine->begin(1, false, kStart - milliseconds(limits::lease_ms), bench.actions);
  bench.order(R"({"action":"purge","service":"tts","tag":"user:ann"})");
  CHECK(bench.ended() == "purged;");
  bench.tell(LeaseAsked{7, 1});
  bench.order(R"({"action":"purge","service":"tts","tag":"user:ann"})");
  const auto told = bench.take<TellPurge>();
  REQUIRE(told.size() == 1);
  CHECK(*told[0].names == std::vector<uint64_t>{cache::name_hash("tts", "user:ann")});
  CHECK(bench.take<AskPurge>().empty());
  CHECK(bench.ended().empty());
  bench.tell(PurgeHeard{told[0].link, told[0].token});
  CHECK(bench.ended() == "purged;");
  bench.tell(LeaseAsked{7, 2});
  bench.order(R"({"action":"purge","service":"tts"})");
  bench.advance(limits::lease_ms);
  CHECK(bench.ended() == "purged;");  // who says nothing has no lease any more
}

// The reply to "x" of b is kept here.
struct Keeper : Orderer {
  contract::CacheTerms terms;
  Keeper() {
    terms.ttl_ms = 600'000;
    cache = &terms;
  }
  void grant() {
    for (const AskLease& ask : take<AskLease>()) tell(PeerLeased{ask.peer, ask.token, 70});
  }
  void answer(std::string_view body) {
    const SendToPeer call = sent();
    Outcome outcome;
    outcome.payload.body = Slice::copy_of(body);
    tell(PeerReplied{call.peer, call.call_id, std::move(outcome)});
  }
  bool is_given() {
    request("ocr", "x");
    grant();
    const bool is_given = take<SendToPeer>().empty();
    return is_given;
  }
};

TEST_CASE("what is kept here is given no more as soon as the purge is ordered, whoever has yet to confirm it") {
  for (const std::string& what :
       {std::string(R"("service":"ocr")"), std::string(R"("all":true)"), std::string("key")}) {
    Keeper bench;
    bench.request("ocr", "x");
    bench.grant();
    bench.answer("old");
    const auto replies = bench.take<ReplyToAgent>();
    REQUIRE(replies.size() == 1);
    const telemetry::CacheTrace& trace = *replies[0].outcome.cache;
    CHECK(trace.keeping == telemetry::CacheKeeping::kKept);
    REQUIRE(bench.is_given());
    const std::string key = wire::key_text(trace.key_high, trace.key_low);
    bench.order(R"({"action":"purge",)" + (what == "key" ? R"("key":")" + key + "\"" : what) + "}");
    CHECK_FALSE(bench.is_given());
    CHECK(bench.take<AskPurge>().size() == 2);
    CHECK(bench.ended().empty());
  }
}

TEST_CASE("a reply that was on its way when the purge was ordered is not kept") {
  Keeper bench;
  bench.request("ocr", "x");
  bench.grant();
  bench.order(kOcr);
  bench.confirm_all();
  CHECK(bench.ended() == "purged;");
  bench.answer("old");
  const auto replies = bench.take<ReplyToAgent>();
  REQUIRE(replies.size() == 1);
  CHECK(replies[0].outcome.cache->keeping == telemetry::CacheKeeping::kPurged);
  CHECK_FALSE(bench.is_given());
}

TEST_CASE("the purge of one thing leaves another where it is") {
  Keeper bench;
  bench.request("ocr", "x");
  bench.grant();
  bench.answer("old");
  bench.order(R"({"action":"purge","service":"tts"})");
  bench.order(R"({"action":"purge","service":"ocr","tag":"user:ann"})");
  CHECK(bench.is_given());
}

TEST_CASE("who cannot be reached is dialed for 0.8 s and then named, and who can confirms all the same") {
  Orderer bench(false);
  bench.connect(1);
  bench.order(kOcr);
  CHECK(bench.take<DialPeer>().size() == 1);
  bench.confirm_all();
  bench.advance(limits::reconnect_min_ms);
  CHECK(bench.take<DialPeer>().size() == 1);
  bench.tell(PeerLost{0, wire::Lane::kInteractive, {}, {}});
  CHECK(bench.take<DialPeer>().empty());  // not as fast as it is refused
  bench.advance(limits::connect_wait_ms - limits::reconnect_min_ms - 1);
  CHECK(bench.ended().empty());
  REQUIRE(bench.engine->next_deadline() <= bench.now + milliseconds(1));
  bench.advance(1);
  CHECK(bench.ended() == "not b/main;");
  CHECK(bench.engine->next_deadline() == kNever);
}

TEST_CASE("who is connected meanwhile is asked then") {
  Orderer bench(false);
  bench.order(kOcr);
  bench.connect(0);
  bench.advance(100);
  bench.connect(1);
  bench.confirm_all();
  CHECK(bench.ended() == "purged;");
}

TEST_CASE("who was asked and lost is asked again, and named if he does not come back") {
  Orderer bench;
  bench.order(kOcr);
  CHECK(bench.take<AskPurge>().size() == 2);
  for (const PeerIndex peer : {0, 1}) bench.tell(PeerLost{peer, wire::Lane::kInteractive, {}, {}});
  bench.advance(300);
  bench.connect(1);
  bench.confirm_all();
  bench.advance(500);
  CHECK(bench.ended() == "not b/main;");
}

TEST_CASE("who does not answer within 5 s is named, and what he says later changes nothing") {
  Orderer bench;
  bench.order(kOcr);
  const auto asks = bench.take<AskPurge>();
  bench.tell(PurgeConfirmed{asks[1].peer, asks[1].token});
  bench.advance(limits::purge_wait_ms - 1);
  CHECK(bench.ended().empty());
  bench.advance(1);
  CHECK(bench.ended() == "not b/main;");
  bench.tell(PurgeConfirmed{asks[0].peer, asks[0].token});
  CHECK(bench.ended().empty());
}

TEST_CASE("who is too old to be told is named at once, and not asked") {
  Orderer bench(false);
  bench.connect(0, false);
  bench.order(kOcr);
  bench.connect(1, false);
  CHECK(bench.take<AskPurge>().empty());
  CHECK(bench.ended() == "not b/main;not c/main;");
}

TEST_CASE("all is the names of all services, each to who serves it") {
  Orderer bench;
  bench.config.peers[0].services.emplace_back("vision");
  bench.engine.emplace(bench.config);
  bench.connect(0);
  bench.connect(1);
  bench.tell(LeaseAsked{7, 1});
  bench.order(R"({"action":"purge","all":true})");
  const auto asks = bench.take<AskPurge>();
  REQUIRE(asks.size() == 2);
  CHECK(asks[0].names.size() + asks[1].names.size() == 3);
  const auto told = bench.take<TellPurge>();
  REQUIRE(told.size() == 1);
  CHECK(*told[0].names == std::vector<uint64_t>{cache::name_hash("tts", "")});
}

TEST_CASE("more names than one message takes are told in several, and all of them have to be confirmed") {
  Orderer bench;
  for (size_t i = 0; i < limits::purged_names_max; ++i) {
    bench.config.peers[0].services.push_back("s" + std::to_string(i));
  }
  bench.config.peers.resize(1);
  bench.engine.emplace(bench.config);
  bench.connect(0);
  bench.order(R"({"action":"purge","all":true})");
  const auto asks = bench.take<AskPurge>();
  REQUIRE(asks.size() == 2);
  CHECK(asks[0].names.size() == limits::purged_names_max);
  bench.tell(PurgeConfirmed{0, asks[1].token});
  CHECK(bench.ended().empty());
  bench.advance(limits::purge_wait_ms);
  CHECK(bench.ended() == "not b/main;");
}

TEST_CASE("an agent orders a purge by a call to mesh.cache, which ends when it is done or its own time is up") {
  Orderer bench;
  bench.request(kCacheService, kOcr, 2000);
  CHECK(bench.take<NotePurge>().size() == 1);
  CHECK(bench.take<ReplyToAgent>().empty());
  bench.confirm_all();
  auto replies = bench.take<ReplyToAgent>();
  REQUIRE(replies.size() == 1);
  CHECK(replies[0].outcome.payload.body.text() ==
        R"({"status":"success","purged":["all of ocr"],"confirmed_by":["b/main","c/main"]})");
  bench.request(kCacheService, kOcr, 2000);
  bench.advance(2000);
  replies = bench.take<ReplyToAgent>();
  REQUIRE(replies.size() == 1);
  CHECK(replies[0].outcome.code == Code::kOutcomeUnknown);
  const std::string body = wire::reply_for(*replies[0].outcome.error);
  CHECK(body.find(R"("not_confirmed":["b/main","c/main"])") != std::string::npos);
  CHECK(bench.engine->idle());
}

TEST_CASE("what is no order is answered so, and so is a service that nobody knows, and too many at once") {
  Orderer bench;
  bench.request(kCacheService, "flush");
  CHECK(bench.only_code() == Code::kInvalid);
  bench.request(kCacheService, R"({"action":"purge","service":"nowhere"})");
  CHECK(bench.only_code() == Code::kNoRoute);
  for (size_t i = 0; i < 2 * limits::purge_orders_max; ++i) bench.order(kOcr);
  CHECK(bench.take<PurgeDone>().size() >= limits::purge_orders_max);
  bench.confirm_all();
  CHECK(bench.engine->idle());
  bench.advance(1000);
  bench.order(kOcr);
  bench.confirm_all();
  CHECK(bench.ended().ends_with("purged;"));
}

TEST_CASE("an order outlives whoever gave it, and a drain waits for it") {
  Orderer bench;
  const ClientId client = bench.request(kCacheService, kOcr);
  bench.tell(ClientClosed{client});
  bench.tell(DrainRequested{});
  CHECK_FALSE(bench.engine->idle());
  bench.confirm_all();
  CHECK(bench.engine->idle());
}

TEST_CASE("why a call was not answered with what is kept, and what became of its reply, is written down") {
  using telemetry::CacheKeeping;
  using telemetry::CacheMiss;
  Keeper bench;
  const auto newest = [&] { return bench.engine->outbound().recorder().log().newest(1)[0]->trace.cache; };
  bench.request("ocr", "x");
  bench.grant();
  bench.answer(R"({"status":"error"})");
  CHECK(newest().miss == CacheMiss::kAbsent);
  CHECK(newest().keeping == CacheKeeping::kUnsuccessful);
  bench.request("ocr", "x");
  bench.answer("old");
  CHECK(newest().keeping == CacheKeeping::kKept);
  bench.order(kOcr);
  bench.request("ocr", "x");
  bench.answer("new");
  CHECK(newest().miss == CacheMiss::kPurged);
  bench.advance(600'001);
  bench.request("ocr", "x");
  bench.grant();
  bench.answer("newer");
  CHECK(newest().miss == CacheMiss::kExpired);
  bench.advance(limits::lease_ms);
  bench.request("ocr", "x");
  bench.advance(limits::lease_wait_ms);
  bench.answer("newest");
  CHECK(newest().miss == CacheMiss::kUnleased);
}

TEST_CASE("look-ups are counted by tier, and the curve of hits over memory grows with them") {
  Keeper bench;
  for (int i = 0; i < 3; ++i) {
    bench.request("ocr", "x");
    bench.grant();
    if (i == 0) bench.answer("old");
  }
  const auto tiers = bench.engine->outbound().tiers();
  REQUIRE(tiers.size() == 2);  // beside its agent as well
  CHECK(tiers[0].entries == 1);
  CHECK(tiers[0].hits == 2);
  CHECK(tiers[0].misses == 1);
  REQUIRE(bench.engine->outbound().curve() != nullptr);
  CHECK(bench.engine->outbound().curve()->hit_ratio(1 << 20) == doctest::Approx(2.0 / 3));
}

}  // namespace
}  // namespace mesh::proxy
