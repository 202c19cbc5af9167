#include <doctest/doctest.h>

#include <array>
#include <vector>

#include "tests/unit/engine_bench.h"
#include "tests/unit/shared_memory.h"

namespace mesh::proxy {
namespace {

// Two sidecars of one host that share memory; each asks "ocr" at a peer of its own choice.
struct OneHost {
  cache::Memory memory{4 * limits::MiB};
  cache::SharedTier tiers[2] = {memory.attach(), memory.attach()};
  contract::CacheTerms terms;
  Bench sidecars[2];

  OneHost() {
    terms.ttl_ms = 10'000;
    for (int i = 0; i < 2; ++i) {
      Bench& bench = sidecars[i];
      bench.config.sidecar = i == 0 ? "main" : "second";
      bench.config.peers.resize(1);
      bench.engine.emplace(bench.config, &tiers[i]);
      bench.cache = &terms;
      bench.tell(PeerConnected{0, wire::Lane::kInteractive, true});
    }
  }
  Bench& first() { return sidecars[0]; }
  Bench& second() { return sidecars[1]; }
  // Who asks gets the lease that he asks for with it.
  static void ask(Bench& bench, std::string_view body, int64_t budget_ms = 1000) {
    bench.request("ocr", body, budget_ms);
    lease(bench);
  }
  static void lease(Bench& bench) {
    for (const AskLease& ask : bench.take<AskLease>()) bench.tell(PeerLeased{ask.peer, ask.token, 70});
  }
  void advance(int64_t ms) {
    for (int64_t i = 0; i < ms; ++i) {
      for (Bench& bench : sidecars) bench.advance(1);
    }
  }
  static size_t asked(Bench& bench) { return bench.take<SendToPeer>().size(); }
  static void reply(Bench& bench, const SendToPeer& call, std::string_view body, Code code = Code::kOk) {
    Outcome outcome;
    outcome.code = code;
    if (code != Code::kOk) outcome.error = std::make_unique<Error>();
    outcome.payload.body = Slice::copy_of(body);
    bench.tell(PeerReplied{call.peer, call.call_id, std::move(outcome)});
  }
  static std::string replies(Bench& bench) {
    std::string all;
    for (const ReplyToAgent& reply : bench.take<ReplyToAgent>())
      all += std::string(reply.outcome.payload.body.text()) + " ";
    return all;
  }
};

TEST_CASE("what one sidecar of a host fetches, the others wait for and do not ask as well, however long it takes") {
  OneHost host;
  OneHost::ask(host.first(), "x", 5000);
  const SendToPeer call = host.first().sent();
  host.advance(3);
  OneHost::ask(host.second(), "x", 5000);
  OneHost::ask(host.second(), "x", 5000);
  OneHost::ask(host.second(), "y", 5000);
  const SendToPeer other = host.second().sent();
  CHECK(other.payload.body.text() == "y");
  host.advance(limits::lease_ms + 300);
  CHECK(OneHost::asked(host.second()) == 0);
  OneHost::reply(host.first(), call, "answer");
  CHECK(OneHost::replies(host.first()) == "answer ");
  host.advance(10);
  OneHost::lease(host.second());
  CHECK(OneHost::replies(host.second()) == "answer answer ");
  CHECK(OneHost::asked(host.second()) == 0);
  OneHost::reply(host.second(), other, "other");
  CHECK(host.first().engine->audit().empty());
  CHECK(host.second().engine->audit().empty());
  CHECK(host.second().engine->idle());
}

TEST_CASE("nobody waits longer than a moment for a sidecar that was stopped or killed in the middle of a fetch") {
  OneHost host;
  OneHost::ask(host.first(), "x");
  host.first().sent();
  OneHost::ask(host.second(), "x");
  CHECK(OneHost::asked(host.second()) == 0);
  host.second().advance(limits::flight_ms);  // and the first does not
  CHECK(OneHost::asked(host.second()) == 1);
}

TEST_CASE("what another sidecar could not get is asked for at once, by each for itself") {
  OneHost host;
  OneHost::ask(host.first(), "x");
  const SendToPeer call = host.first().sent();
  OneHost::ask(host.second(), "x");
  host.advance(2);
  OneHost::reply(host.first(), call, "", Code::kAppError);
  host.advance(2);
  const SendToPeer own = host.second().sent();
  OneHost::reply(host.second(), own, "answer");
  CHECK(OneHost::replies(host.second()) == "answer ");
}

TEST_CASE("of little time a quarter is spent on waiting for another sidecar: the rest is for asking") {
  OneHost host;
  OneHost::ask(host.first(), "x", 1000);
  OneHost::ask(host.second(), "x", 100);
  host.advance(20);
  CHECK(OneHost::asked(host.second()) == 0);
  host.advance(10);
  CHECK(OneHost::asked(host.second()) == 1);
}

TEST_CASE("where all who asked have gone, what another sidecar fetches is looked for no more") {
  OneHost host;
  OneHost::ask(host.first(), "x");
  const ClientId client = host.second().request("ocr", "x");
  OneHost::lease(host.second());
  host.second().tell(ClientClosed{client});
  host.second().advance(100);
  CHECK(OneHost::asked(host.second()) == 0);
  CHECK(host.second().engine->idle());
}

TEST_CASE("what was asked for before a purge is not waited for behind it, and the host asks for it once more") {
  OneHost host;
  OneHost::ask(host.first(), "x");
  const SendToPeer before = host.first().sent();
  const std::array<uint64_t, 1> names = {cache::name_hash("ocr", "")};
  for (Bench& bench : host.sidecars) bench.tell(PeerPurged{0, 5, 71, false, names});
  OneHost::ask(host.second(), "x");
  const SendToPeer behind = host.second().sent();
  OneHost::ask(host.first(), "x");
  CHECK(OneHost::asked(host.first()) == 0);
  OneHost::reply(host.first(), before, "old");
  OneHost::reply(host.second(), behind, "new");
  host.advance(2);
  CHECK(OneHost::replies(host.first()) == "old new ");
  CHECK(OneHost::asked(host.first()) == 0);
}

TEST_CASE(
    "who keeps shared memory waits no longer than 50 ms for a peer that does not say whether something was missed") {
  OneHost host;
  OneHost::ask(host.first(), "x");
  OneHost::reply(host.first(), host.first().sent(), "old");
  host.second().request("ocr", "x");
  CHECK(OneHost::asked(host.second()) == 0);
  host.second().advance(limits::lease_wait_ms);
  CHECK(OneHost::asked(host.second()) == 1);
}

TEST_CASE("requests that wait for another sidecar are counted among the bytes that one may hold") {
  OneHost host;
  for (const char* body : {"12345678", "abcdefgh"}) {
    OneHost::ask(host.first(), body);
    host.first().sent();
  }
  host.second().config.limits.process_queued_bytes = 10;
  OneHost::ask(host.second(), "12345678");
  CHECK(host.second().engine->audit().empty());
  OneHost::ask(host.second(), "abcdefgh");
  CHECK(host.second().only_code() == Code::kOverloaded);
  host.second().advance(limits::flight_ms);  // and the first does not
  CHECK(OneHost::asked(host.second()) == 1);
  CHECK(host.second().engine->audit().empty());
}

TEST_CASE("what cannot be kept, as not all who write can be heard, nobody waits for") {
  OneHost host;
  for (int i = 0; i < 2; ++i) {
    Bench& bench = host.sidecars[i];
    bench.config.peers.push_back({.host = "c", .sidecar = "main", .endpoint = {}, .services = {"ocr"}});
    bench.config.contracts.declare_method("ocr", "forget", {.invalidates = std::vector<contract::TagPattern>(1)});
    bench.engine.emplace(bench.config, &host.tiers[i]);
    bench.tell(PeerConnected{0, wire::Lane::kInteractive, true});
    OneHost::ask(bench, "x");
    CHECK(OneHost::asked(bench) == 1);
  }
}

TEST_CASE("what is about to run out one sidecar of a host fetches anew, and the others take that") {
  OneHost host;
  OneHost::ask(host.first(), "x");
  const SendToPeer call = host.first().sent();
  host.advance(500);
  OneHost::reply(host.first(), call, "one");
  OneHost::ask(host.second(), "x");
  CHECK(OneHost::replies(host.second()) == "one ");
  std::vector<SendToPeer> early;
  while (early.empty()) {
    host.advance(100);
    OneHost::ask(host.first(), "x");
    early = host.first().take<SendToPeer>();
  }
  CHECK(OneHost::replies(host.first()).ends_with("one one "));
  OneHost::reply(host.first(), early[0], "two");
  for (int i = 0; i < 200; ++i) OneHost::ask(host.second(), "x");
  CHECK(OneHost::asked(host.second()) == 0);
  CHECK(OneHost::replies(host.second()).ends_with(" two "));
}

TEST_CASE("who hears that something was missed takes nothing of before for right, whoever of the host asked for it") {
  OneHost host;
  host.second().tell(PeerLost{0, wire::Lane::kInteractive, {}, {}});
  OneHost::ask(host.second(), "y");  // it waits for the connection, and so does the question for a lease
  OneHost::ask(host.first(), "x");
  OneHost::reply(host.first(), host.first().sent(), "old");
  host.first().tell(PeerLost{0, wire::Lane::kInteractive, {}, {}});  // and the word of a write is lost with it
  host.advance(limits::lease_ms);
  OneHost::replies(host.second());
  host.second().tell(PeerConnected{0, wire::Lane::kInteractive, true});
  for (const AskLease& ask : host.second().take<AskLease>()) host.second().tell(PeerLeased{ask.peer, ask.token, 71});
  OneHost::ask(host.second(), "x");
  CHECK(OneHost::replies(host.second()).empty());
}

TEST_CASE("while one sidecar of a host notes what became wrong, the others neither know of it nor do without") {
  OneHost host;
  cache::Purges book(host.tiers[0].purge_words());
  Leases noting(Services(host.first().config).views(), book, &host.tiers[0]);
  Leases other(Services(host.second().config).views(), book, &host.tiers[1]);
  Actions out;
  for (Leases* leases : {&noting, &other}) leases->on_connected(0, true, kStart, out);
  other.want(0, kStart, out);
  other.on_leased({0, 1, 70});
  other.settle(0);
  CHECK(other.position(0) == 70U);
  const auto missed = noting.on_purged({0, 5, 71, false, {}});
  CHECK_FALSE(missed.has_value());
  CHECK(other.position(0) != 70U);
  CHECK(other.position(0) != 71U);
  noting.settle(0);
  CHECK(other.position(0) == 71U);
}

TEST_CASE("what one sidecar knows of a peer another takes over only if it knows the same services there") {
  OneHost host;
  cache::Purges book(host.tiers[0].purge_words());
  SidecarConfig more = host.second().config;
  more.peers[0].services.emplace_back("tts");
  Leases one(Services(host.first().config).views(), book, &host.tiers[0]);
  Leases same(Services(host.second().config).views(), book, &host.tiers[1]);
  Leases another(Services(more).views(), book, &host.tiers[1]);
  Actions out;
  one.on_connected(0, true, kStart, out);
  one.want(0, kStart, out);
  one.on_leased({0, 1, 70});
  one.settle(0);
  CHECK(same.position(0) == 70U);
  CHECK_FALSE(another.position(0));
}

}  // namespace
}  // namespace mesh::proxy
