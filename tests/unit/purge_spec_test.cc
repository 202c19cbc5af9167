#include "sidecar/proxy/purge_spec.h"

#include <doctest/doctest.h>

#include <string>

#include "common/cache/purges.h"
#include "common/wire/message.h"

namespace mesh::proxy {
namespace {

TEST_CASE("an order names what it purges as replies carry it") {
  const auto tag = read_purge_spec(R"({"action":"purge","service":"tts","tag":"user:ann","request_id":"1"})");
  REQUIRE(tag);
  CHECK(tag->name_in_book() == cache::name_hash("tts", "user:ann"));
  CHECK(tag->text() == "tag user:ann of tts");
  const auto method = read_purge_spec(R"({"action":"purge","service":"tts","method":"say"})");
  REQUIRE(method);
  CHECK(method->name_in_book() == cache::name_hash("tts", std::string(1, '\0') + "say"));
  const auto service = read_purge_spec(R"({"action":"purge","service":"tts"})");
  REQUIRE(service);
  CHECK(service->name_in_book() == cache::name_hash("tts", ""));
  const cache::Hash hash{.low = 0xAB, .high = 0x1200000000000000};
  const std::string key = wire::key_text(hash.high, hash.low);
  CHECK(key == "120000000000000000000000000000ab");
  const auto by_key = read_purge_spec(R"({"action":"purge","key":")" + key + R"("})");
  REQUIRE(by_key);
  CHECK(by_key->name_in_book() == cache::key_name(hash));
  const auto all = read_purge_spec(R"({"action":"purge","all":true})");
  REQUIRE(all);
  CHECK(all->kind == PurgeSpec::Kind::kAll);
}

TEST_CASE("what is no order is refused, and the error shows one that is") {
  const std::string deep(100, '[');
  const std::string large = R"({"action":"purge","service":"tts","tag":")" + std::string(5000, 'x') + R"("})";
  for (const std::string& body :
       {std::string(), std::string("purge"), std::string("[]"), deep, large, std::string("{}"),
        std::string(R"({"action":"purge"})"), std::string(R"({"service":"tts"})"),
        std::string(R"({"action":"flush","service":"tts"})"), std::string(R"({"action":"purge","tag":"user:ann"})"),
        std::string(R"({"action":"purge","service":7})"), std::string(R"({"action":"purge","service":""})"),
        std::string(R"({"action":"purge","service":"tts","tag":"x","method":"y"})"),
        std::string(R"({"action":"purge","service":"tts","all":true})"), std::string(R"({"action":"purge","all":1})"),
        std::string(R"({"action":"purge","key":"12"})"),
        std::string(R"({"action":"purge","service":"tts","user":"ann"})"),
        std::string(R"({"action":"purge","key":"120000000000000000000000000000zz"})"),
        std::string(R"({"action":"purge","service":"tts","tag":["x"]})")}) {
    const auto read = read_purge_spec(body);
    CHECK_MESSAGE(!read, body.substr(0, 80));
    if (read) continue;
    CHECK(read.error().code == Code::kInvalid);
    CHECK(read.error().hint.find(R"("action":"purge")") != std::string::npos);
  }
}

}  // namespace
}  // namespace mesh::proxy
