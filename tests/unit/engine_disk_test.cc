#include <doctest/doctest.h>

#include <array>

#include "common/cache/kept_form.h"
#include "tests/unit/engine_bench.h"
#include "tests/unit/shared_memory.h"

namespace mesh::proxy {
namespace {

// A sidecar whose agent "db" is asked by peers, and that keeps its replies on disk.
struct DiskBench : Bench {
  uint64_t last_call = 0;
  explicit DiskBench(int64_t ttl_ms = 600'000) {
    config.agents[0] = {.name = "db", .service = "db", .endpoint = {}};
    contract::Declaration read;
    contract::CacheTerms& terms = read.cache.emplace();
    terms.ttl_ms = ttl_ms;
    terms.tiers = contract::kAllTiers;
    REQUIRE(contract::TagPattern::parse("user:{user}", terms.tags.emplace_back()));
    config.contracts.declare_method("db", "read", read);
    config.contracts.declare_method("db", "write", {.invalidates = terms.tags});
    engine.emplace(config);
    engine->begin(1, true, now - milliseconds(limits::lease_ms), actions);
    tell(AgentConnected{0});
  }
  void ask(std::string_view user, std::string_view method = "read") {
    const wire::Delivery delivery{.knowledge = 1};  // there is no other instance
    tell(PeerRequested{.link = 7,
                       .call_id = ++last_call,
                       .service = "db",
                       .method = method,
                       .budget = milliseconds(1000),
                       .priority = Priority::kNormal,
                       .payload = {Slice::copy_of(R"({"user":")" + std::string(user) + "\"}"), {}},
                       .delivery = &delivery});
  }
  bool reply(std::string_view body) {
    const auto delivered = take<DeliverToAgent>();
    if (delivered.size() != 1) return false;
    tell(AgentReplied{.agent = 0, .call_id = delivered[0].call_id, .payload = {Slice::copy_of(body), {}}});
    return true;
  }
  std::string replies() {
    std::string all;
    for (const SendReply& reply : take<SendReply>()) all += std::string(reply.outcome.payload.body.text()) + ";";
    return all;
  }
  // What was stored of the first read of "ann"; memory knows nothing of it afterwards. A book is known by its number.
  StoredReply stored_ann(uint64_t next_book = 1) {
    ask("ann");
    tell(ReplyLoaded{take<LoadReply>().at(0).ticket, std::nullopt});
    REQUIRE(reply("one"));
    CHECK(replies() == "one;");
    const auto stored = take<StoreReply>();
    REQUIRE(stored.size() == 1);
    engine.emplace(config);
    engine->begin(next_book, true, now - milliseconds(limits::lease_ms), actions);
    for (const EraseReplies& erasure : take<EraseReplies>()) tell(RepliesErased{.ticket = erasure.ticket});
    tell(AgentConnected{0});
    return {.value = stored[0].value, .age_ms = stored[0].age_ms, .left_ms = stored[0].ttl_ms};
  }
};

TEST_CASE("what memory has not is looked for on disk before the agent is asked, once for all who ask") {
  DiskBench bench;
  const StoredReply stored = bench.stored_ann();
  bench.ask("ann");
  bench.ask("ann");
  const auto loads = bench.take<LoadReply>();
  REQUIRE(loads.size() == 1);
  CHECK(bench.take<DeliverToAgent>().empty());
  bench.tell(ReplyLoaded{loads[0].ticket, stored});
  const auto given = bench.take<SendReply>();
  REQUIRE(given.size() == 2);
  CHECK(given[0].outcome.payload.body.text() == "one");
  REQUIRE(given[0].outcome.cache != nullptr);
  CHECK(given[0].outcome.cache->tier == static_cast<uint8_t>(contract::Tier::kDisk));
  CHECK(bench.engine->idle());
}

TEST_CASE("a reply from disk is as old as it was when it was stored, and what time was spent since") {
  DiskBench bench;
  StoredReply stored = bench.stored_ann();
  stored.age_ms = 500'000;
  bench.ask("ann");
  bench.tell(ReplyLoaded{bench.take<LoadReply>().at(0).ticket, stored});
  CHECK(bench.take<SendReply>().at(0).outcome.cache->age_ms == 500'000);
  bench.advance(100'001);
  bench.ask("ann");
  CHECK(bench.take<SendReply>().empty());  // its 600 s are over
}

TEST_CASE("a disk that takes long is not waited for, and what it says then is nobody's") {
  DiskBench bench;
  const StoredReply stored = bench.stored_ann();
  bench.ask("ann");
  const auto loads = bench.take<LoadReply>();
  bench.advance(100);
  REQUIRE(bench.reply("two"));
  bench.tell(ReplyLoaded{loads.at(0).ticket, stored});
  CHECK(bench.replies() == "two;");
}

TEST_CASE("a reply of another request with the same hash, or one that is damaged, is a miss") {
  DiskBench bench;
  StoredReply stored = bench.stored_ann();
  for (const bool is_damaged : {false, true}) {
    bench.ask(is_damaged ? "cat" : "bob");
    StoredReply wrong = stored;
    if (is_damaged) wrong.value = wrong.value.part(0, wrong.value.size() - 1);
    bench.tell(ReplyLoaded{bench.take<LoadReply>().at(0).ticket, wrong});
    REQUIRE(bench.reply("right"));
    CHECK(bench.replies() == "right;");
  }
}

TEST_CASE(
    "a writer is answered when what it made wrong is gone from the disk, and what is read meanwhile is not taken") {
  DiskBench bench;
  const StoredReply stored = bench.stored_ann();
  bench.ask("ann", "write");
  REQUIRE(bench.reply("done"));
  const auto erasures = bench.take<EraseReplies>();
  REQUIRE(erasures.size() == 1);
  CHECK(bench.replies().empty());
  bench.ask("ann");
  bench.tell(ReplyLoaded{bench.take<LoadReply>().at(0).ticket, stored});
  REQUIRE(bench.reply("two"));
  CHECK(bench.replies() == "two;");
  bench.tell(RepliesErased{.ticket = erasures[0].ticket});
  CHECK(bench.replies() == "done;");
}

TEST_CASE("a disk that cannot be used is not waited for by a writer, nor read before it has erased") {
  DiskBench bench;
  const StoredReply stored = bench.stored_ann();
  bench.ask("ann", "write");
  REQUIRE(bench.reply("done"));
  const auto erasures = bench.take<EraseReplies>();
  bench.tell(RepliesErased{.ticket = erasures.at(0).ticket, .is_pending = true});
  CHECK(bench.replies() == "done;");
  bench.ask("ann");
  bench.tell(ReplyLoaded{bench.take<LoadReply>().at(0).ticket, stored});
  CHECK(bench.reply("two"));
}

TEST_CASE("a disk that works and does not answer is waited for, but not for ever") {
  DiskBench bench;
  bench.ask("ann", "write");
  REQUIRE(bench.reply("done"));
  bench.advance(limits::erasure_ms_max - 1);
  CHECK(bench.replies().empty());
  bench.advance(1);
  CHECK(bench.replies() == "done;");
}

TEST_CASE(
    "an order is confirmed to nobody before the disk has erased what it named, and never if that takes too long") {
  const std::array<uint64_t, 1> names = {cache::name_hash("db", "")};
  for (const bool is_erased : {true, false}) {
    DiskBench bench;
    bench.take<EraseReplies>();
    bench.tell(PurgeAsked{7, 77, names});
    bench.tell(PurgeWanted{5, PurgeSpec{.kind = PurgeSpec::Kind::kService, .service = "db"}});
    const auto erasures = bench.take<EraseReplies>();
    REQUIRE(erasures.size() == 2);
    for (const EraseReplies& each : erasures) bench.tell(RepliesErased{.ticket = each.ticket, .is_pending = true});
    bench.advance(limits::erasure_ms_max - 1);
    CHECK(bench.take<ConfirmPurge>().empty());
    CHECK(bench.take<PurgeDone>().empty());
    if (!is_erased) bench.advance(1);
    for (const EraseReplies& each : erasures) bench.tell(RepliesErased{.ticket = each.ticket});
    CHECK(bench.take<ConfirmPurge>().size() == (is_erased ? 1 : 0));
    bench.advance(limits::purge_wait_ms);
    const auto done = bench.take<PurgeDone>();
    REQUIRE(done.size() == 1);
    CHECK(done[0].outcome.code == (is_erased ? Code::kOk : Code::kOutcomeUnknown));
    CHECK(bench.engine->idle());
  }
}

TEST_CASE(
    "what lies on disk of another book is not taken if it can be written, as no process may have lived to erase it") {
  for (const uint64_t book : {1, 2}) {
    DiskBench bench;
    const StoredReply stored = bench.stored_ann(book);
    bench.ask("ann");
    bench.tell(ReplyLoaded{bench.take<LoadReply>().at(0).ticket, stored});
    CHECK(bench.reply("two") == (book == 2));
    CHECK(bench.replies() == (book == 2 ? "two;" : "one;"));
  }
}

TEST_CASE("what another sidecar of the host was told is wrong is not taken from disk, though nobody told this one") {
  for (const bool is_told : {false, true}) {
    DiskBench bench;
    cache::Memory memory(cache::kSharedRegionBytesMin);
    cache::SharedTier tier = memory.attach();
    bench.engine.emplace(bench.config, &tier);
    bench.engine->begin(1, true, bench.now - milliseconds(limits::lease_ms), bench.actions);
    for (const EraseReplies& erasure : bench.take<EraseReplies>()) bench.tell(RepliesErased{.ticket = erasure.ticket});
    bench.tell(AgentConnected{0});
    bench.ask("ann");
    bench.tell(ReplyLoaded{bench.take<LoadReply>().at(0).ticket, std::nullopt});
    REQUIRE(bench.reply("one"));
    const auto stored = bench.take<StoreReply>();
    REQUIRE(stored.size() == 1);
    bench.replies();
    // The next process finds the book as this one left it, or as another has changed it.
    cache::Purges book(memory.attach().purge_words());
    if (is_told) book.purge(stored[0].names.back());
    bench.config.limits.cache_local_bytes = 0;
    bench.engine.emplace(bench.config, &tier);
    bench.engine->begin(2, true, bench.now - milliseconds(limits::lease_ms), bench.actions);
    bench.tell(AgentConnected{0});
    tier.erase(cache::decode_kept_form(stored[0].value)->kept.key);
    bench.ask("ann");
    const auto loads = bench.take<LoadReply>();
    REQUIRE(loads.size() == 1);
    bench.tell(
        ReplyLoaded{loads[0].ticket, StoredReply{.value = stored[0].value, .age_ms = 0, .left_ms = stored[0].ttl_ms}});
    CHECK(bench.reply("two") == is_told);
    CHECK(bench.replies() == (is_told ? "two;" : "one;"));
  }
}

TEST_CASE("what is right for a moment only is not written to disk") {
  DiskBench bench(limits::disk_ttl_ms_min - 1);
  bench.ask("ann");
  bench.tell(ReplyLoaded{bench.take<LoadReply>().at(0).ticket, std::nullopt});
  REQUIRE(bench.reply("one"));
  CHECK(bench.take<StoreReply>().empty());
}

TEST_CASE("where no memory outlives a process, what can be written is erased at its start") {
  DiskBench bench;
  CHECK(bench.take<EraseReplies>().size() == 1);
}

}  // namespace
}  // namespace mesh::proxy
