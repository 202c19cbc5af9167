#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "common/base/limits.h"
#include "common/base/prng.h"
#include "common/cache/reply.h"
#include "common/cache/request.h"

namespace mesh::cache {
namespace {

using contract::CacheTerms;
using contract::TagPattern;

struct Reader {
  RequestReader reader;
  CacheTerms terms;
  Request read(std::string_view body, std::string_view service = "tts", std::string_view method = "speak",
               std::string_view caller = "") {
    return reader.read({service, method, caller, as_bytes(body), {}}, terms);
  }
  bool same(std::string_view a, std::string_view b) {
    const Request first = read(a);
    const Request second = read(b);
    const bool is_same = first.key.text.text() == second.key.text.text();
    CHECK(is_same == (first.key.hash == second.key.hash));
    return is_same;
  }
};

TEST_CASE("two bodies that say the same have the same key, however they are written") {
  Reader keys;
  CHECK(keys.same(R"({"a":1,"b":[true,null]})", R"( { "b" : [ true , null ] , "a" : 1 } )"));
  CHECK(keys.same(R"({"text":"é"})", "{\"text\":\"\xC3\xA9\"}"));
  CHECK(keys.same(R"({"n":{"y":2,"x":1}})", R"({"n":{"x":1,"y":2}})"));
  CHECK(keys.same(R"({"t":1.50,"u":1e2})", R"({"u":100.0,"t":1.5})"));
  CHECK(keys.same(R"({"a":1,"request_id":"x","timestamp":1.5,"source_agent":"p"})", R"({"a":1,"request_id":"y"})"));
}

TEST_CASE("two bodies that an agent may tell apart have different keys") {
  Reader keys;
  CHECK_FALSE(keys.same(R"({"a":1})", R"({"a":1.0})"));
  CHECK_FALSE(keys.same(R"({"a":0.0})", R"({"a":-0.0})"));
  CHECK_FALSE(keys.same(R"({"a":1})", R"({"a":"1"})"));
  CHECK_FALSE(keys.same(R"({"a":[1,2]})", R"({"a":[2,1]})"));
  CHECK_FALSE(keys.same(R"({"a":null})", R"({})"));
  CHECK_FALSE(keys.same(R"({"a":[[],[]]})", R"({"a":[[[]]]})"));
  CHECK_FALSE(keys.same(R"({"a":9223372036854775807})", R"({"a":9223372036854775808})"));
  CHECK_FALSE(keys.same(R"({"n":{"request_id":1}})", R"({"n":{"request_id":2}})"));  // only at top level
  CHECK_FALSE(keys.same("plain", "plain "));
}

TEST_CASE("what cannot be brought into order is compared byte by byte") {
  Reader keys;
  CHECK_FALSE(keys.same(R"({"a":1,"a":2})", R"({"a":2,"a":1})"));
  CHECK_FALSE(keys.same(R"({"a":1,"a":2})", R"({"a":2})"));
  CHECK_FALSE(keys.same(R"({"a":123456789012345678901234567890})", R"({"a":123456789012345678901234567891})"));
  CHECK(keys.same(R"({"a":1,"a":2})", R"({"a":1,"a":2})"));
  const std::string deep = "{\"a\":" + std::string(100, '[') + std::string(100, ']') + "}";
  CHECK_FALSE(keys.same(deep, deep + " "));
  CHECK(keys.same(deep, deep));
  const std::string large = R"({"a":")" + std::string(limits::canonical_body_bytes, 'x') + R"("})";
  CHECK_FALSE(keys.same(large, " " + large));
  CHECK_FALSE(keys.same("{\"a\":1", "{\"a\":1 "));
}

TEST_CASE("service, method, caller, version and frames each make a key of their own") {
  Reader keys;
  const auto hash = [&](std::string_view service, std::string_view method, std::string_view caller) {
    return keys.read("{}", service, method, caller).key.hash;
  };
  CHECK(hash("a", "b", "") != hash("ab", "", ""));
  CHECK(hash("a", "b", "") != hash("a", "", "b"));
  CHECK(hash("a", "b", "x") != hash("a", "b", "y"));
  const Hash before = hash("a", "b", "");
  keys.terms.version = "2";
  CHECK(hash("a", "b", "") != before);
  const uint32_t halves[] = {1, 1};
  const uint32_t other[] = {2, 0};
  const Asked two{"s", "m", "", as_bytes("{}"), halves};
  const Asked three{"s", "m", "", as_bytes("{}"), other};
  CHECK(keys.reader.read(two, keys.terms).key.hash != keys.reader.read(three, keys.terms).key.hash);
}

TEST_CASE("key fields are all that counts") {
  Reader keys;
  keys.terms.key_fields = {"text", "voice"};
  CHECK(keys.same(R"({"text":"a","voice":"b","speed":1})", R"({"voice":"b","speed":2,"text":"a"})"));
  CHECK_FALSE(keys.same(R"({"text":"a","voice":"b"})", R"({"text":"a"})"));
}

TEST_CASE("tags are filled from the request, and one that cannot be is told") {
  Reader keys;
  keys.terms.tags.resize(2);
  REQUIRE(TagPattern::parse("user:{user_id}", keys.terms.tags[0]));
  REQUIRE(TagPattern::parse("all", keys.terms.tags[1]));
  const Request asked = keys.read(R"({"user_id":7})");
  CHECK_FALSE(asked.lacks_tag);
  CHECK(asked.tags == std::vector<uint64_t>{name_hash("tts", "user:7"), name_hash("tts", "all")});
  CHECK(keys.read(R"({"user_id":"7"})").tags == asked.tags);
  CHECK(keys.read(R"({"user_id":7})", "ocr").tags != asked.tags);
  CHECK(keys.read(R"({"user":7})").lacks_tag);
  CHECK(keys.read(R"({"user_id":[7]})").lacks_tag);
  CHECK(keys.read("no json").lacks_tag);
  TagPattern bad;
  for (const char* text : {"", "{", "a{b", "a}b", "{}", "{a{b}}"}) CHECK_FALSE(TagPattern::parse(text, bad));
}

bool succeeds(std::string_view reply, const CacheTerms& terms = {}) {
  ReplyReader reader;
  return reader.read(as_bytes(reply), terms, {}).is_success;
}

TEST_CASE("a reply is a success by its status and error, or as the contract says") {
  CHECK(succeeds(R"({"status":"success"})"));
  CHECK(succeeds(R"({"status":"SUCCESS","payload":{"status":"error"}})"));
  CHECK(succeeds(R"({"status":"ok","error":null})"));
  CHECK(succeeds(R"({"result":1})"));
  CHECK(succeeds("pong"));
  CHECK_FALSE(succeeds(R"({"status":"error"})"));
  CHECK_FALSE(succeeds(R"({"status":"degraded"})"));
  CHECK_FALSE(succeeds(R"({"error":"no such voice"})"));
  CHECK_FALSE(succeeds(R"({"status":1})"));
  CHECK_FALSE(succeeds(R"({"status":"success",)"));
  CacheTerms terms;
  terms.success_when = {{"found", {"true"}}, {"state", {"done", "degraded"}}};
  CHECK(succeeds(R"({"found":true,"state":"DONE","error":"old"})", terms));
  CHECK_FALSE(succeeds(R"({"found":true})", terms));
  CHECK_FALSE(succeeds(R"({"found":"false","state":"done"})", terms));
  CHECK_FALSE(succeeds("pong", terms));
}

TEST_CASE("a kept reply is given with what the new request would have had repeated") {
  Reader keys;
  keys.terms.echo_fields = {"request_id", "n"};
  const Request first = keys.read(R"({"a":1,"request_id":"one","n":1.50})");
  const Request second = keys.read(R"({"request_id":"tw\"o","a":1,"n":7})");
  CHECK(first.key.hash == second.key.hash);
  CHECK(first.key.hash != keys.read(R"({"a":1,"n":1})").key.hash);  // it repeats less
  ReplyReader reader;
  const Slice body = Slice::copy_of(R"({"request_id" : "one" ,"x":"one","n":1.5, "r":{"request_id":"one"}})");
  const Reply reply = reader.read(body.view(), keys.terms, first.echoes);
  CHECK(reply.echoes.size() == 2);
  CHECK(with_echoes(body, reply.echoes, second.echoes).text() ==
        R"({"request_id" : "tw\"o" ,"x":"one","n":7, "r":{"request_id":"one"}})");
  const Slice own = Slice::copy_of(R"({"request_id":"another"})");
  CHECK(reader.read(own.view(), keys.terms, first.echoes).echoes.empty());
}

TEST_CASE("any bytes are read as a request and as a reply") {
  Prng prng(7);
  Reader keys;
  keys.terms.echo_fields = {"a"};
  ReplyReader replies;
  const std::string seed = R"({"a":"x","status":"ok","n":[1,2.5,{"b":null}],"e":"\u00e9"})";
  for (int i = 0; i < 20'000; ++i) {
    std::string body = seed;
    for (uint64_t flips = 1 + prng.below(4); flips > 0; --flips) {
      body[prng.below(body.size())] = static_cast<char>(prng.below(256));
    }
    body.resize(prng.below(body.size() + 1));
    const Request asked = keys.read(body);
    const Reply reply = replies.read(as_bytes(body), keys.terms, {R"("x")"});
    const std::string answer(with_echoes(Slice::copy_of(body), reply.echoes, {"1"}).text());
    CHECK(answer.size() <= body.size());
    CHECK(asked.key.text.text() == keys.read(body).key.text.text());
  }
}

}  // namespace
}  // namespace mesh::cache
