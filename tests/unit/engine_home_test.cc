#include <doctest/doctest.h>

#include <array>

#include "common/cache/request.h"
#include "tests/unit/engine_bench.h"

namespace mesh::proxy {
namespace {

// A sidecar whose agent "db" is asked by peers, over links, and that keeps its replies for all of them.
struct Home : Bench {
  uint64_t last_call = 0;
  explicit Home(bool has_second_instance = false, bool has_writes = true) {
    config.agents[0] = {.name = "db", .service = "db", .endpoint = {}};
    contract::Declaration read;
    contract::CacheTerms& terms = read.cache.emplace();
    terms.ttl_ms = 10'000;
    REQUIRE(contract::TagPattern::parse("user:{user}", terms.tags.emplace_back()));
    config.contracts.declare_method("db", "read", read);
    if (has_writes) config.contracts.declare_method("db", "write", {.invalidates = terms.tags});
    if (has_second_instance) config.peers[0].services.emplace_back("db");
    engine.emplace(config);
    tell(AgentConnected{0});
    if (has_second_instance) tell(PeerConnected{0, wire::Lane::kInteractive, true});
  }
  // Nobody else writes, as far as whoever asks knows.
  static constexpr uint64_t kNobodyElse = 1;
  uint64_t ask(LinkId link, std::string_view user, uint64_t knowledge = kNobodyElse, std::string_view method = "read") {
    const wire::Delivery delivery{.knowledge = knowledge};
    tell(PeerRequested{.link = link,
                       .call_id = ++last_call,
                       .service = "db",
                       .method = method,
                       .budget = milliseconds(1000),
                       .priority = Priority::kNormal,
                       .payload = {Slice::copy_of(R"({"user":")" + std::string(user) + R"(","request_id":)" +
                                                  std::to_string(last_call) + "}"),
                                   {}},
                       .delivery = &delivery});
    return last_call;
  }
  size_t delivered() {
    const auto taken = take<DeliverToAgent>();
    for (const DeliverToAgent& each : taken) at_agent.push_back(each.call_id);
    return taken.size();
  }
  // The agent answers what it has had longest.
  void reply(std::string_view body) {
    delivered();
    REQUIRE(!at_agent.empty());
    tell(AgentReplied{.agent = 0, .call_id = at_agent.front(), .payload = {Slice::copy_of(body), {}}});
    at_agent.erase(at_agent.begin());
  }
  // "link:body" of each reply to a peer.
  std::string replies() {
    std::string all;
    for (const SendReply& reply : take<SendReply>()) {
      all += std::to_string(reply.link) + ":" + std::string(reply.outcome.payload.body.text()) + " ";
      if (reply.outcome.code != Code::kOk) all += std::string(to_string(reply.outcome.code)) + " ";
    }
    return all;
  }
  std::vector<uint64_t> at_agent;
};

TEST_CASE("what one peer has asked for is kept where it comes from, and given to another without asking the agent") {
  Home bench;
  bench.ask(7, "ann");
  CHECK(bench.delivered() == 1);
  bench.reply("one");
  CHECK(bench.replies() == "7:one ");
  bench.advance(400);
  bench.ask(8, "ann");
  const auto given = bench.take<SendReply>();
  REQUIRE(given.size() == 1);
  CHECK(given[0].link == 8);
  CHECK(given[0].outcome.payload.body.text() == "one");
  CHECK(given[0].spans.agent_us == wire::CalleeSpans::kAgentNotReached);
  REQUIRE(given[0].outcome.cache != nullptr);
  CHECK(given[0].outcome.cache->verdict == telemetry::CacheVerdict::kHit);
  CHECK(given[0].outcome.cache->age_ms == 400);
  CHECK(bench.delivered() == 0);
}

TEST_CASE("peers that ask the same at once are one request to the agent, and who goes away takes nothing with it") {
  Home bench;
  bench.ask(7, "ann");
  bench.ask(8, "ann");
  const uint64_t cancelled = bench.ask(9, "ann");
  CHECK(bench.delivered() == 1);
  bench.tell(LinkClosed{7});
  bench.tell(PeerCancelled{9, cancelled});
  bench.reply("one");
  CHECK(bench.replies() == "8:one ");
  CHECK(bench.engine->idle());
}

TEST_CASE("each peer that waits has its own deadline") {
  Home bench;
  bench.ask(7, "ann");
  bench.advance(600);
  bench.ask(8, "ann");
  bench.advance(400);
  CHECK(bench.replies() == "7: DEADLINE ");
  bench.advance(200);
  CHECK(bench.replies().empty());
}

TEST_CASE("a write makes wrong what is kept beside its agent before its writer is answered") {
  Home bench;
  bench.ask(7, "ann");
  bench.reply("one");
  bench.ask(8, "ann", Home::kNobodyElse, "write");
  bench.reply("done");
  CHECK(bench.replies() == "7:one 8:done ");
  bench.ask(9, "ann");
  CHECK(bench.delivered() == 1);
  bench.reply("two");
  CHECK(bench.replies() == "9:two ");
  CHECK(bench.engine->audit().empty());
}

TEST_CASE("who knows of writers that are not known here, or does not say, is given nothing that is kept") {
  for (const uint64_t knowledge : {0U, 2U}) {
    Home bench;
    bench.ask(7, "ann");
    bench.reply("one");
    bench.ask(7, "ann", knowledge);
    CHECK(bench.delivered() == 1);
  }
}

// Both know of an instance at "b" that writes as well; the other is asked at "a", by a caller from elsewhere.
struct HomeAndCaller {
  Home home{true};
  Bench caller;
  contract::CacheTerms terms;
  HomeAndCaller() {
    terms.ttl_ms = 10'000;
    caller.cache = &terms;
    caller.config.host = "d";
    caller.config.agents.clear();
    caller.config.peers.clear();
    for (const char* host : {"a", "b"}) {
      caller.config.peers.push_back({.host = host, .sidecar = "main", .endpoint = {}, .services = {"db"}});
    }
    contract::TagPattern tag;
    REQUIRE(contract::TagPattern::parse("user:{user}", tag));
    caller.config.contracts.declare_method("db", "write", {.invalidates = std::vector{tag}});
    caller.engine.emplace(caller.config);
    for (const PeerIndex peer : {0U, 1U}) caller.tell(PeerConnected{peer, wire::Lane::kInteractive, true});
  }
  // What each hears from "b", where so many writes were answered.
  void lease(Bench& bench, PeerIndex b, uint64_t writes) {
    for (const AskLease& ask : bench.take<AskLease>()) {
      bench.tell(PeerLeased{ask.peer, ask.token, ask.peer == b ? 70 + writes : 30});
    }
  }
  // What the caller says it knows when it asks the instance at "a".
  uint64_t knowledge_of_caller() {
    for (int i = 0; i < 20; ++i) {
      caller.request("db", "ask " + std::to_string(++asked));
      lease(caller, 1, caller_heard);
      for (const SendToPeer& call : caller.take<SendToPeer>()) {
        Outcome outcome;
        caller.tell(PeerReplied{call.peer, call.call_id, std::move(outcome)});
        if (call.peer == 0) return call.knowledge;
      }
    }
    return 0;
  }
  // Whether the agent is asked.
  bool is_fetched(std::string_view user) {
    home.ask(7, user, knowledge_of_caller());
    lease(home, 0, home_heard);
    const bool is_fetched = home.delivered() == 1;
    if (is_fetched) home.reply("one");
    home.replies();
    return is_fetched;
  }
  void purge(Bench& bench, PeerIndex b, uint64_t& heard) {
    const std::array<uint64_t, 1> names = {cache::name_hash("db", "user:bob")};
    bench.tell(PeerPurged{b, 5, 70 + ++heard, false, names});
  }
  uint64_t home_heard = 0;
  uint64_t caller_heard = 0;
  int asked = 0;
};

TEST_CASE("beside another instance that writes, who knows as much of it is given what is kept") {
  HomeAndCaller two;
  CHECK(two.is_fetched("ann"));  // it has to ask the other first what that makes wrong
  CHECK(two.is_fetched("ann"));
  CHECK_FALSE(two.is_fetched("ann"));
}

TEST_CASE("who has heard of a write that is not known where replies are kept, is given what the agent says") {
  HomeAndCaller two;
  two.is_fetched("ann");
  two.is_fetched("ann");
  two.purge(two.caller, 1, two.caller_heard);
  CHECK(two.is_fetched("ann"));
  two.purge(two.home, 0, two.home_heard);
  CHECK_FALSE(two.is_fetched("ann"));
}

TEST_CASE("who has not yet heard of a write that is known where replies are kept, is given what the agent says") {
  HomeAndCaller two;
  two.is_fetched("ann");
  two.is_fetched("ann");
  two.purge(two.home, 0, two.home_heard);
  CHECK(two.is_fetched("ann"));
  two.purge(two.caller, 1, two.caller_heard);
  CHECK_FALSE(two.is_fetched("ann"));
}

TEST_CASE(
    "what another instance says became wrong is passed on to who keeps this one's, once, before that is confirmed") {
  Home bench(true, false);
  bench.ask(7, "ann");
  bench.reply("one");
  bench.tell(LeaseAsked{7, 3});
  const std::array<uint64_t, 1> names = {cache::name_hash("db", "user:ann")};
  bench.tell(PeerPurged{0, 5, 71, false, names});
  const auto told = bench.take<TellPurge>();
  REQUIRE(told.size() == 1);
  CHECK(told[0].is_relayed);
  CHECK(bench.take<HearPurge>().empty());
  bench.tell(PurgeHeard{told[0].link, told[0].token});
  CHECK(bench.take<HearPurge>().size() == 1);
  bench.ask(8, "ann");
  CHECK(bench.delivered() == 1);  // what was kept is wrong here, too
  bench.tell(PeerPurged{0, 6, 72, true, names});
  CHECK(bench.take<TellPurge>().empty());  // it has gone round already
  CHECK(bench.take<HearPurge>().size() == 1);
}

TEST_CASE(
    "who told of something over a connection that is lost is not answered over the next, where nobody told of it") {
  Home bench(true, false);
  bench.tell(LeaseAsked{7, 3});
  const std::array<uint64_t, 1> names = {cache::name_hash("db", "user:ann")};
  bench.tell(PeerPurged{0, 5, 71, false, names});
  const auto told = bench.take<TellPurge>();
  REQUIRE(told.size() == 1);
  bench.tell(PeerLost{0, wire::Lane::kInteractive, {}, {}});
  bench.tell(PeerConnected{0, wire::Lane::kInteractive, true});
  bench.tell(PurgeHeard{told[0].link, told[0].token});
  CHECK(bench.take<HearPurge>().empty());
  CHECK(bench.engine->idle());
}

TEST_CASE("a reply that was old when it came is kept for what is left of its time") {
  Bench bench;
  contract::CacheTerms terms;
  terms.ttl_ms = 1000;
  bench.cache = &terms;
  bench.tell(PeerConnected{0, wire::Lane::kInteractive, true});
  bench.tell(PeerConnected{1, wire::Lane::kInteractive, true});
  const auto grant = [&] {
    for (const AskLease& ask : bench.take<AskLease>()) bench.tell(PeerLeased{ask.peer, ask.token, 70});
  };
  bench.request("ocr", "x");
  grant();
  const SendToPeer call = bench.sent();
  Outcome outcome;
  outcome.payload.body = Slice::copy_of("old");
  outcome.cache = std::make_unique<telemetry::CacheTrace>(
      telemetry::CacheTrace{.verdict = telemetry::CacheVerdict::kHit, .tier = 2, .age_ms = 700});
  bench.tell(PeerReplied{call.peer, call.call_id, std::move(outcome)});
  const auto first = bench.take<ReplyToAgent>();
  REQUIRE(first.size() == 1);
  REQUIRE(first[0].outcome.cache != nullptr);
  CHECK(first[0].outcome.cache->age_ms == 700);
  bench.advance(100);
  bench.request("ocr", "x");
  grant();
  const auto second = bench.take<ReplyToAgent>();
  REQUIRE(second.size() == 1);
  CHECK(second[0].outcome.cache->age_ms == 800);
  bench.advance(300);
  bench.request("ocr", "x");
  grant();
  CHECK(bench.take<SendToPeer>().size() == 1);
}

// Two peers serve "ocr", whose replies are kept beside them.
struct TwoHomes : Bench {
  contract::CacheTerms terms;
  TwoHomes() {
    terms.ttl_ms = 10'000;
    cache = &terms;
    tell(PeerConnected{0, wire::Lane::kInteractive, true});
    tell(PeerConnected{1, wire::Lane::kInteractive, true});
  }
  // Which peer is asked for it; its agent takes so long, and the way 100 us.
  PeerIndex ask(const std::string& body, uint32_t agent_us) {
    request("ocr", body);
    for (const AskLease& ask : take<AskLease>()) tell(PeerLeased{ask.peer, ask.token, 70});
    const SendToPeer call = sent();
    const std::array<CallsLeft::Call, 1> left = {{{call.call_id, 0, 1000}}};
    engine->outbound().note({{}, left}, now);
    now += microseconds(agent_us + 100);
    const wire::CalleeSpans spans{.agent_us = agent_us};
    Outcome outcome;
    outcome.payload.body = Slice::copy_of("reply");
    tell(PeerReplied{call.peer, call.call_id, std::move(outcome), &spans});
    return call.peer;
  }
};

TEST_CASE("where an answer is dear its key picks who gives it, the same for everybody, and all have their share") {
  TwoHomes one;
  TwoHomes other;
  other.ask("another before", 50'000);
  one.ask("before", 50'000);
  size_t at_first = 0;
  for (int i = 0; i < 64; ++i) {
    const std::string body = "dear " + std::to_string(i);
    const PeerIndex peer = one.ask(body, 50'000);
    CHECK(other.ask(body, 50'000) == peer);
    at_first += peer == 0 ? 1 : 0;
  }
  CHECK(at_first > 16);
  CHECK(at_first < 48);
}

TEST_CASE("where an answer costs little more than the way, whoever has least to do is asked") {
  TwoHomes bench;
  for (int i = 0; i < 64; ++i) CHECK(bench.ask("cheap " + std::to_string(i), 500) == 0);
}

TEST_CASE("while the home of a key is away another instance is asked") {
  TwoHomes bench;
  bench.ask("before", 50'000);
  bench.tell(PeerDraining{0, wire::Lane::kInteractive});
  for (int i = 0; i < 16; ++i) CHECK(bench.ask("dear " + std::to_string(i), 50'000) == 1);
}

}  // namespace
}  // namespace mesh::proxy
