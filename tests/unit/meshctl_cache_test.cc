// What "meshctl cache" shows, from JSON to text.
#include <doctest/doctest.h>

#include "tools/meshctl/cache.h"

namespace mesh::ctl {
namespace {

const Paint kPlain(false);

bool has(const std::string& text, std::string_view word) { return text.find(word) != std::string::npos; }

TEST_CASE("each tier is a row, and the curve says what more memory would do") {
  const std::string text = cache_stats_text(Json::parse(R"({"host":"a","sidecar":"main","tiers":[
        {"tier":"local","entries":3,"bytes":3072,"budget_bytes":104857600,"hits":30,"misses":10,"evicted":2},
        {"tier":"shared","entries":7,"bytes":1,"budget_bytes":2,"hits":0,"misses":0,"evicted":0}],
        "given":31,"stale":1,"joined":4,"fetches":10,"purges":5,"purge_rounds":6,"purge_orders":2,
        "purges_unconfirmed":1,"curve":[{"times":0.25,"bytes":26214400,"hit_ratio":0.5}]})"),
                                            kPlain);
  for (const char* word : {"a/main", "local", "shared", "3.0 KiB", "100.0 MiB", "75.0 %", "given 31, of these stale 1",
                           "ordered here 2, not confirmed by all 1", "× 0.25", "50.0 %"}) {
    CHECK_MESSAGE(has(text, word), word, "\n", text);
  }
}

TEST_CASE("a purge that somebody has not confirmed is told with who and what to do") {
  const std::string failed = cache_purge_text(
      Json::parse(R"({"host":"a","sidecar":"main","code":"OUTCOME_UNKNOWN","status":"error","error":"not by b/main",
        "mesh":{"hint":"again","not_confirmed":["b/main"]}})"),
      kPlain);
  CHECK(has(failed, "✗ a/main  OUTCOME_UNKNOWN: not by b/main"));
  CHECK(has(failed, "again"));
  const std::string done =
      cache_purge_text(Json::parse(R"({"host":"a","sidecar":"main","code":"OK","purged":["all of tts"],
        "confirmed_by":["b/main","a/main"]})"),
                       kPlain);
  CHECK(done == "✓ a/main  all of tts is given no more; confirmed by b/main, a/main\n");
}

TEST_CASE("why a call was not answered with what is kept is a sentence for each reason, and none is left out") {
  for (const char* why :
       {"not_declared", "untagged", "absent", "expired", "purged", "unleased", "keyed", "fetch", "not_looked_up"}) {
    const Json record = {{"call", "a/main-7"}, {"cache", nullptr}, {"cache_why", why}, {"cache_then", ""}};
    CHECK_MESSAGE(cache_why_text(record, kPlain).size() > 60, why);
    CHECK_FALSE(has(cache_why_text(record, kPlain), std::string("no: ") + why));
  }
  for (const char* then : {"kept", "failed", "unsuccessful", "too_large", "purged", "unleased", "elsewhere"}) {
    const Json record = {{"cache", {{"verdict", "fetched"}, {"key", "00"}, {"fetched_by", "a/main-8"}}},
                         {"cache_why", "absent"},
                         {"cache_then", then}};
    const std::string text = cache_why_text(record, kPlain);
    CHECK(has(text, "a/main-8"));
    CHECK_FALSE(has(text, std::string("its reply  ") + then));
  }
  const std::string hit = cache_why_text(
      Json::parse(R"({"cache":{"verdict":"stale","key":"00ff","tier":"local","age_ms":1500},"cache_why":""})"), kPlain);
  CHECK(has(hit, "yes: what was kept (local) for 1.50 s; it had run out"));
  CHECK(has(hit, "00ff"));
}

TEST_CASE("a body is shown as a terminal may have it") {
  CHECK(from_base64("aGVsbG8=") == "hello");
  CHECK(from_base64("aGVsbG8h") == "hello!");
  CHECK(from_base64("").empty());
  CHECK(from_base64("aGVs*bG8=") == "hel");
  const std::string text = cache_get_text(
      Json::parse(R"({"host":"a","sidecar":"main","found":{"key":"00","service":"tts","tier":"local","body_bytes":5,
        "bytes":500,"age_ms":1000,"fresh_ms":2000,"useful_ms":3000,"fetch_us":1500,"tags":["ab"],
        "body_base64":"Ghtb"}})"),
      kPlain);
  for (const char* word : {"tts at a/main", "5 B", "1.00 s; fresh for 2.00 s", "by their hashes: ab", "\\x1a\\x1b["}) {
    CHECK_MESSAGE(has(text, word), word, "\n", text);
  }
  CHECK(has(cache_get_text(Json::parse(R"({"host":"a","sidecar":"main","found":null})"), kPlain), "no such key"));
}

TEST_CASE("answers of any shape are shown") {
  const Json odd = Json::parse(R"({"tiers":7,"keys":[3,{}],"found":[],"purged":[1],"curve":[null]})");
  CHECK_FALSE(cache_stats_text(odd, kPlain).empty());
  CHECK_FALSE(cache_keys_text(odd).empty());
  CHECK_FALSE(cache_get_text(odd, kPlain).empty());
  CHECK_FALSE(cache_purge_text(odd, kPlain).empty());
  CHECK_FALSE(cache_why_text(odd, kPlain).empty());
}

}  // namespace
}  // namespace mesh::ctl
