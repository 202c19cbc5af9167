#include <doctest/doctest.h>

#include "tests/unit/engine_bench.h"

namespace mesh::proxy {
namespace {

using telemetry::CacheVerdict;

// A sidecar that keeps the replies of "ocr", which two peers serve.
struct CacheBench : Bench {
  contract::CacheTerms terms;
  CacheBench() {
    terms.ttl_ms = 10'000;
    cache = &terms;
    tell(PeerConnected{0, wire::Lane::kInteractive, true});
    tell(PeerConnected{1, wire::Lane::kInteractive, true});
  }
  // Each peer tells at once that nothing became wrong.
  uint64_t position[2] = {70, 80};
  void grant() {
    for (const AskLease& ask : take<AskLease>()) tell(PeerLeased{ask.peer, ask.token, position[ask.peer]});
  }
  ClientId request(std::string_view service, std::string_view body, int64_t budget_ms = 1000) {
    const ClientId client = Bench::request(service, body, budget_ms);
    grant();
    return client;
  }
  void answer(const SendToPeer& call, std::string_view body) {
    Outcome outcome;
    outcome.payload.body = Slice::copy_of(body);
    tell(PeerReplied{call.peer, call.call_id, std::move(outcome)});
  }
  void fail(const SendToPeer& call, Code code) {
    tell(PeerReplied{call.peer, call.call_id, engine->rejector().reject(code, "ocr", "agent", "test", "", "")});
  }
  // The only answer there is now.
  ReplyToAgent given() {
    auto replies = take<ReplyToAgent>();
    REQUIRE(replies.size() == 1);
    return std::move(replies[0]);
  }
  std::string body_given() { return std::string(given().outcome.payload.body.text()); }
  CacheVerdict last_verdict() { return engine->outbound().recorder().log().newest(1).at(0)->trace.cache.verdict; }
  // Fills the cache with the answer to `body`.
  void warm(std::string_view body, std::string_view reply) {
    request("ocr", body);
    answer(sent(), reply);
    CHECK(body_given() == reply);
  }
};

TEST_CASE("what was asked before is answered without asking, until it is too old") {
  CacheBench bench;
  bench.warm(R"({"a":1,"request_id":"x"})", "reply");
  bench.request("ocr", R"({"request_id":"y", "a":1})");
  CHECK(bench.take<SendToPeer>().empty());
  const ReplyToAgent hit = bench.given();
  CHECK(hit.outcome.payload.body.text() == "reply");
  REQUIRE(hit.outcome.cache != nullptr);
  CHECK(hit.outcome.cache->verdict == CacheVerdict::kHit);
  CHECK(bench.engine->counters()[Counter::kCacheHits] == 1);
  bench.request("ocr", R"({"a":2})");
  bench.answer(bench.sent(), "other");
  CHECK(bench.body_given() == "other");
  bench.advance(10'001);
  bench.request("ocr", R"({"a":1})");
  CHECK(bench.take<SendToPeer>().size() == 1);
}

TEST_CASE("a method whose replies are not declared to be kept is asked each time") {
  CacheBench bench;
  bench.cache = nullptr;
  bench.request("ocr", "x");
  bench.answer(bench.sent(), "reply");
  bench.request("ocr", "x");
  CHECK(bench.take<SendToPeer>().size() == 1);
}

TEST_CASE("a thousand who ask the same wait for one fetch, and whoever asked first may go") {
  CacheBench bench;
  const ClientId first = bench.request("ocr", "same");
  const SendToPeer fetch = bench.sent();
  for (int i = 0; i < 999; ++i) bench.request("ocr", "same");
  CHECK(bench.take<SendToPeer>().empty());
  bench.tell(ClientClosed{first});
  CHECK(bench.take<CancelAtPeer>().empty());
  bench.answer(fetch, "reply");
  const auto replies = bench.take<ReplyToAgent>();
  CHECK(replies.size() == 999);
  for (const ReplyToAgent& reply : replies) CHECK(reply.outcome.payload.body.text() == "reply");
  CHECK(bench.engine->counters()[Counter::kCacheFetches] == 1);
  CHECK(bench.engine->idle());
}

TEST_CASE("a fetch that nobody waits for any more is kept all the same") {
  CacheBench bench;
  const ClientId only = bench.request("ocr", "same");
  const SendToPeer fetch = bench.sent();
  bench.tell(ClientClosed{only});
  bench.answer(fetch, "reply");
  CHECK(bench.take<ReplyToAgent>().empty());
  bench.request("ocr", "same");
  CHECK(bench.body_given() == "reply");
}

TEST_CASE("each who waits has its own deadline, and one that has time left has it fetched anew") {
  CacheBench bench;
  bench.request("ocr", "same", 500);
  const SendToPeer fetch = bench.sent();
  bench.request("ocr", "same", 200);
  bench.request("ocr", "same", 2000);
  bench.advance(201);
  CHECK(bench.only_code() == Code::kDeadline);
  bench.advance(300);
  CHECK(bench.only_code() == Code::kDeadline);  // the one with 500 ms
  bench.fail(fetch, Code::kDeadline);
  bench.advance(20);
  const SendToPeer again = bench.sent();
  CHECK(again.deadline == kStart + milliseconds(2000));
  bench.answer(again, "late");
  CHECK(bench.body_given() == "late");
}

TEST_CASE("what many ask for is fetched anew shortly before it runs out, and nobody waits for that") {
  CacheBench bench;
  bench.request("ocr", "x", 5000);
  const SendToPeer fetch = bench.sent();
  bench.advance(2000);  // so dear it is
  bench.answer(fetch, "old");
  bench.take<ReplyToAgent>();
  bench.request("ocr", "x");
  CHECK(bench.take<SendToPeer>().empty());  // not at once
  bench.take<ReplyToAgent>();
  bench.now = kStart + milliseconds(8000);
  for (int i = 0; i < 200; ++i) bench.request("ocr", "x");
  CHECK(bench.take<SendToPeer>().size() == 1);
  CHECK(bench.take<ReplyToAgent>().size() == 200);
  CHECK(bench.engine->counters()[Counter::kCacheStale] == 0);
}

TEST_CASE("what was fetched together does not run out together, and never too late") {
  CacheBench bench;
  constexpr int kBodies = 50;
  bench.config.limits.calls_per_target_max = 1000;
  const auto ask_all = [&] {
    for (int i = 0; i < kBodies; ++i) bench.request("ocr", std::to_string(i));
    return bench.take<SendToPeer>();
  };
  for (const SendToPeer& call : ask_all()) bench.answer(call, "reply");
  bench.advance(8999);
  CHECK(ask_all().empty());
  bench.advance(500);
  const size_t gone = ask_all().size();
  CHECK(gone > 5);
  CHECK(gone < 45);
  bench.advance(501);
  CHECK(ask_all().size() == kBodies - gone);  // the others are being fetched
}

TEST_CASE("whoever has time left joins a fetch that began since") {
  CacheBench bench;
  bench.request("ocr", "same", 100);
  const SendToPeer first = bench.sent();
  bench.request("ocr", "same", 2000);
  bench.now += milliseconds(100);  // its time is up, and it has not been told yet
  bench.request("ocr", "same", 2000);
  const SendToPeer second = bench.sent();
  bench.fail(first, Code::kDeadline);
  CHECK(bench.take<SendToPeer>().empty());
  bench.take<ReplyToAgent>();
  bench.answer(second, "reply");
  CHECK(bench.take<ReplyToAgent>().size() == 2);
}

TEST_CASE("a reply is as old as its question") {
  CacheBench bench;
  bench.request("ocr", "x", 5000);
  const SendToPeer fetch = bench.sent();
  bench.advance(4000);
  bench.answer(fetch, "reply");
  bench.take<ReplyToAgent>();
  bench.advance(6001);
  bench.request("ocr", "x");
  CHECK(bench.take<SendToPeer>().size() == 1);
}

TEST_CASE("an answer that is no success is not kept, or as long as the contract says") {
  CacheBench bench;
  bench.warm("x", R"({"status":"error"})");
  bench.request("ocr", "x");
  bench.answer(bench.sent(), R"({"status":"error"})");
  bench.take<ReplyToAgent>();
  bench.terms.negative_ttl_ms = 1000;
  bench.warm("y", R"({"status":"error"})");
  bench.request("ocr", "y");
  CHECK(bench.body_given() == R"({"status":"error"})");
  bench.advance(1001);
  bench.request("ocr", "y");
  CHECK(bench.take<SendToPeer>().size() == 1);
}

TEST_CASE("an error of the mesh ends all who wait and is never kept") {
  CacheBench bench;
  bench.request("ocr", "x");
  bench.request("ocr", "x");
  const SendToPeer fetch = bench.sent();
  bench.fail(fetch, Code::kOutcomeUnknown);
  const auto replies = bench.take<ReplyToAgent>();
  REQUIRE(replies.size() == 2);
  for (const ReplyToAgent& reply : replies) CHECK(reply.outcome.code == Code::kOutcomeUnknown);
  bench.request("ocr", "x");
  CHECK(bench.take<SendToPeer>().size() == 1);
}

TEST_CASE("what has run out is given at once while a new one is fetched, once") {
  CacheBench bench;
  bench.terms.stale_while_revalidate_ms = 5000;
  bench.warm("x", "old");
  bench.advance(10'001);
  bench.request("ocr", "x");
  CHECK(bench.body_given() == "old");
  CHECK(bench.engine->counters()[Counter::kCacheStale] == 1);
  const SendToPeer renewal = bench.sent();
  bench.request("ocr", "x");
  CHECK(bench.body_given() == "old");
  CHECK(bench.take<SendToPeer>().empty());
  bench.answer(renewal, "new");
  CHECK(bench.take<ReplyToAgent>().empty());
  bench.request("ocr", "x");
  CHECK(bench.body_given() == "new");
}

TEST_CASE("what has run out is given where no new one can be had") {
  CacheBench bench;
  bench.terms.stale_if_error_ms = 60'000;
  bench.warm("x", "old");
  bench.advance(10'001);
  bench.request("ocr", "x");
  const SendToPeer fetch = bench.sent();
  CHECK(bench.take<ReplyToAgent>().empty());
  bench.fail(fetch, Code::kOutcomeUnknown);
  CHECK(bench.body_given() == "old");
  bench.request("ocr", "x", 100);
  bench.take<SendToPeer>();
  bench.advance(101);  // nobody answers
  CHECK(bench.body_given() == "old");
  CHECK(bench.last_verdict() == CacheVerdict::kStaleError);
}

TEST_CASE("a call that makes replies wrong wins against what is kept and against what is on its way") {
  CacheBench bench;
  bench.terms.tags.resize(1);
  REQUIRE(contract::TagPattern::parse("user:{user}", bench.terms.tags[0]));
  std::vector<contract::TagPattern> wrong = bench.terms.tags;
  const std::string mine = R"({"user":"u"})";
  bench.warm(mine, "old");
  bench.warm(R"({"user":"v"})", "of another");
  const auto write = [&] {
    bench.cache = nullptr;
    bench.invalidates = &wrong;
    bench.request("ocr", R"({"user":"u","set":1})");
    bench.answer(bench.sent(), "done");
    bench.take<ReplyToAgent>();
    bench.cache = &bench.terms;
    bench.invalidates = nullptr;
  };
  write();
  bench.request("ocr", R"({"user":"v"})");
  CHECK(bench.body_given() == "of another");
  bench.request("ocr", mine);
  const SendToPeer slow = bench.sent();  // began before the next write
  write();
  bench.request("ocr", mine);
  const SendToPeer fresh = bench.sent();  // does not join it
  bench.answer(slow, "read before the write");
  CHECK(bench.body_given() == "read before the write");
  bench.answer(fresh, "new");
  CHECK(bench.body_given() == "new");
  bench.request("ocr", mine);
  CHECK(bench.body_given() == "new");
}

TEST_CASE("a write that failed behind its execution makes wrong, one that was not executed does not") {
  for (const auto& [code, is_wrong] : {std::pair(Code::kTooLarge, true), std::pair(Code::kStorage, true),
                                       std::pair(Code::kInternal, true), std::pair(Code::kInvalid, false)}) {
    CacheBench bench;
    bench.warm("x", "old");
    std::vector<contract::TagPattern> wrong(1);
    REQUIRE(contract::TagPattern::parse("user:{user}", wrong[0]));
    bench.cache = nullptr;
    bench.invalidates = &wrong;
    bench.request("ocr", "no json");
    bench.fail(bench.sent(), code);
    bench.take<ReplyToAgent>();
    bench.cache = &bench.terms;
    bench.invalidates = nullptr;
    bench.request("ocr", "x");
    CHECK(bench.take<SendToPeer>().empty() != is_wrong);
  }
}

TEST_CASE("a write whose tag cannot be read makes all replies of the service wrong") {
  CacheBench bench;
  bench.warm("x", "old");
  std::vector<contract::TagPattern> wrong(1);
  REQUIRE(contract::TagPattern::parse("user:{user}", wrong[0]));
  bench.cache = nullptr;
  bench.invalidates = &wrong;
  bench.request("ocr", "no json");
  bench.fail(bench.sent(), Code::kOutcomeUnknown);  // perhaps it was written
  bench.take<ReplyToAgent>();
  bench.cache = &bench.terms;
  bench.invalidates = nullptr;
  bench.request("ocr", "x");
  CHECK(bench.take<SendToPeer>().size() == 1);
}

TEST_CASE("replies that are kept per caller are given to that caller only") {
  CacheBench bench;
  const auto ask = [&](std::string caller) {
    const Keeping keeping{.cache = &bench.terms, .invalidates = nullptr, .caller = std::move(caller)};
    bench.tell(AgentRequested{.path = {.client = 7, .route = {}, .header = nullptr},
                              .service = "ocr",
                              .method = "m",
                              .budget_ms = 1000,
                              .max_bytes = 1000,
                              .keeping = &keeping,
                              .payload = {Slice::copy_of("x"), {}}});
    bench.grant();
  };
  ask("one");
  bench.answer(bench.sent(), "for one");
  bench.take<ReplyToAgent>();
  ask("two");
  bench.answer(bench.sent(), "for two");
  bench.take<ReplyToAgent>();
  ask("one");
  CHECK(bench.body_given() == "for one");
}

TEST_CASE("a hedged fetch reaches those who wait, whichever instance answers") {
  CacheBench bench;
  bench.idempotent = true;
  bench.hedge_ms = 50;
  bench.request("ocr", "x");
  const SendToPeer first = bench.sent();
  bench.advance(51);
  const SendToPeer second = bench.sent();
  CHECK(second.peer != first.peer);
  bench.answer(second, "by the second");
  CHECK(bench.body_given() == "by the second");
  bench.request("ocr", "x");
  CHECK(bench.body_given() == "by the second");
  CHECK(bench.engine->outbound().audit().empty());
}

}  // namespace
}  // namespace mesh::proxy
