// What two sidecars of a host, with the same memory, know of others' purges.
#include <doctest/doctest.h>

#include "common/base/limits.h"
#include "sidecar/proxy/driver.h"
#include "tests/unit/engine_bench.h"
#include "tests/unit/quiet_host.h"
#include "tests/unit/shared_memory.h"

namespace mesh::proxy {
namespace {

constexpr uint64_t kRestarted = uint64_t{1} << 40;  // far from where the process before began to count

// A sidecar that keeps replies of what b serves.
struct Housemate : Bench {
  cache::SharedTier tier;
  contract::CacheTerms terms;
  Housemate(cache::Memory& memory, const char* name, std::vector<std::string> services) : tier(memory.attach()) {
    terms.ttl_ms = 600'000;
    cache = &terms;
    config.sidecar = name;
    config.peers.pop_back();
    config.peers[0].services = std::move(services);
    engine.emplace(config, &tier);
    tell(PeerConnected{0, wire::Lane::kInteractive, true});
  }
  void grant(uint64_t position) {
    for (const AskLease& ask : take<AskLease>()) tell(PeerLeased{ask.peer, ask.token, position});
  }
  void answer(const SendToPeer& call, std::string_view body) {
    Outcome outcome;
    outcome.payload.body = Slice::copy_of(body);
    tell(PeerReplied{call.peer, call.call_id, std::move(outcome)});
  }
  void keep(std::string_view service) {
    request(service, "x");
    grant(70);
    answer(sent(), "old");
    CHECK(take<ReplyToAgent>().size() == 1);
  }
  // Whether b is asked, which says of the lease that so much became wrong there.
  bool asks_anew(std::string_view service, uint64_t position) {
    request(service, "x");
    grant(position);
    return take<SendToPeer>().size() == 1;
  }
};

TEST_CASE("what a sidecar was told of a peer's services says nothing of those that it does not know") {
  cache::Memory memory(cache::kSharedRegionBytesMin);
  Housemate one(memory, "main", {"ocr", "nlp"});
  Housemate other(memory, "readers", {"ocr"});
  one.keep("nlp");
  one.advance(limits::lease_ms);
  other.keep("ocr");
  other.advance(limits::lease_ms);
  CHECK(other.asks_anew("ocr", kRestarted));
  CHECK(one.asks_anew("nlp", kRestarted));
}

TEST_CASE("of sidecars that know the same of a peer one hears for all that something was missed") {
  cache::Memory memory(cache::kSharedRegionBytesMin);
  Housemate one(memory, "main", {"nlp", "ocr"});
  Housemate other(memory, "readers", {"ocr", "nlp"});
  one.keep("nlp");
  one.advance(limits::lease_ms);
  other.advance(limits::lease_ms);
  CHECK_FALSE(other.asks_anew("nlp", 70));
  CHECK_FALSE(one.asks_anew("nlp", 70));
  other.advance(limits::lease_ms);
  CHECK(other.asks_anew("ocr", kRestarted));
  CHECK(one.asks_anew("nlp", kRestarted));
}

TEST_CASE("what another sidecar fetched while one asked for its lease is wrong, too, if something was missed") {
  cache::Memory memory(cache::kSharedRegionBytesMin);
  Housemate one(memory, "main", {"ocr"});
  Housemate other(memory, "readers", {"ocr"});
  other.request("ocr", "y");
  const auto asked = other.take<AskLease>();
  REQUIRE(asked.size() == 1);
  one.keep("ocr");  // from the process before
  other.tell(PeerLeased{0, asked[0].token, kRestarted});
  one.advance(limits::lease_ms);
  CHECK(one.asks_anew("ocr", kRestarted));
}

TEST_CASE("what another sidecar may give for longer is given for as long as the own contract says") {
  cache::Memory memory(cache::kSharedRegionBytesMin);
  Housemate lenient(memory, "main", {"ocr"});
  Housemate strict(memory, "readers", {"ocr"});
  lenient.terms.stale_while_revalidate_ms = 600'000;
  strict.terms.ttl_ms = 2000;
  lenient.keep("ocr");
  strict.advance(1500);
  CHECK_FALSE(strict.asks_anew("ocr", 70));
  CHECK(strict.take<ReplyToAgent>().size() == 1);
  strict.advance(600);
  CHECK(strict.asks_anew("ocr", 70));
  CHECK(strict.take<ReplyToAgent>().empty());
  lenient.advance(2100);
  CHECK_FALSE(lenient.asks_anew("ocr", 70));
  CHECK(lenient.take<ReplyToAgent>().size() == 1);
}

}  // namespace
}  // namespace mesh::proxy
