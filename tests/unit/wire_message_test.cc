#include <doctest/doctest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "common/base/limits.h"
#include "common/wire/message.h"
#include "proto/envelope.pb.h"

namespace mesh::wire {
namespace {

Error deadline() {
  Error error;
  error.code = Code::kDeadline;
  error.text = "no answer within 4500 ms";
  error.service = "tts";
  error.hop = "mainpc/main";
  error.stage = "agent";
  error.rule = "deadline_passed";
  error.hint = "raise budget_ms of the service";
  return error;
}

std::string broken_rule(std::string_view frame) {
  const Result<MeshHeader> header = decode_mesh_header(as_bytes(frame));
  return header ? "" : header.error().rule;
}

TEST_CASE("an error reply has the documented shape, to the byte") {
  CHECK(
      reply_for(deadline()) ==
      R"({"status":"error","error":"no answer within 4500 ms","message":"no answer within 4500 ms","code":"DEADLINE",)"
      R"("mesh":{"service":"tts","hop":"mainpc/main","stage":"agent","rule":"deadline_passed",)"
      R"("hint":"raise budget_ms of the service"}})");
}

TEST_CASE("an error reply is valid JSON whatever bytes its texts are made of") {
  Error error = deadline();
  error.text = std::string("quote \" newline \n zero \0 broken \xC3\x28 \xFF", 37);
  error.service = "\xF0\x9F";
  const nlohmann::json reply = nlohmann::json::parse(reply_for(error));
  CHECK(reply["message"] == reply["error"]);
  CHECK(reply["message"].get<std::string>().starts_with("quote \" newline \n"));
  CHECK(reply["mesh"]["service"] == "\xEF\xBF\xBD");
}

TEST_CASE("an error without a text still tells its code to people") {
  Error error;
  error.code = Code::kDraining;
  CHECK(nlohmann::json::parse(reply_for(error))["message"] == "DRAINING");
}

TEST_CASE("a JSON header gives its fields, and unknown ones are ignored however they look") {
  const Result<MeshHeader> header = decode_mesh_header(
      as_bytes(R"({"trace":{"service":"no","a":[{"id":1}]},"service":"tts","method":"say","budget_ms":3000,)"
               R"("priority":"interactive","id":"42","list":[1,2.5,true,null,"x"]})"));
  REQUIRE(header);
  CHECK(header->is_json);
  CHECK(header->service == "tts");
  CHECK(header->method == "say");
  CHECK(header->id == "42");
  CHECK(header->budget_ms == 3000);
  CHECK(header->priority == Priority::kInteractive);
}

TEST_CASE("a protobuf header gives the same fields") {
  v1::MeshHeader message;
  message.set_service("tts");
  message.set_method("say");
  message.set_id("42");
  message.set_budget_ms(3000);
  message.set_priority(v1::PRIORITY_CRITICAL);
  const Result<MeshHeader> header = decode_mesh_header(as_bytes(message.SerializeAsString()));
  REQUIRE(header);
  CHECK_FALSE(header->is_json);
  CHECK(header->service == "tts");
  CHECK(header->method == "say");
  CHECK(header->id == "42");
  CHECK(header->budget_ms == 3000);
  CHECK(header->priority == Priority::kCritical);
}

TEST_CASE("an idempotency key comes with either header, and an empty or long one is refused") {
  const auto json = [](const std::string& key) {
    return decode_mesh_header(as_bytes(R"({"service":"s","idempotency_key":")" + key + "\"}"));
  };
  CHECK(json("order 7")->key == "order 7");
  CHECK_FALSE(json(""));
  CHECK_FALSE(json(std::string(limits::name_bytes + 1, 'k')));
  v1::MeshHeader header;
  header.set_service("s");
  header.set_idempotency_key("order 7");
  CHECK(decode_mesh_header(as_bytes(header.SerializeAsString()))->key == "order 7");
}

TEST_CASE("budget and priority that are not said are not made up") {
  for (const std::string_view frame :
       {std::string_view(R"({"service":"tts","budget_ms":null})"), std::string_view("\x0A\x03tts")}) {
    const Result<MeshHeader> header = decode_mesh_header(as_bytes(frame));
    REQUIRE(header);
    CHECK_FALSE(header->budget_ms);
    CHECK_FALSE(header->priority);
    CHECK(header->method.empty());
    CHECK(header->id.empty());
  }
}

TEST_CASE("a JSON header that cannot be read is refused by the name of the field") {
  CHECK(broken_rule("") == "header_service");
  CHECK(broken_rule("{}") == "header_service");
  CHECK(broken_rule(R"({"service":""})") == "header_service");
  CHECK(broken_rule(R"({"service":7})") == "header_service");
  CHECK(broken_rule(R"({"service":{"x":"tts"}})") == "header_service");
  CHECK(broken_rule(R"({"service":["tts"]})") == "header_service");
  CHECK(broken_rule(R"({"service":"tts","method":true})") == "header_method");
  CHECK(broken_rule(R"({"service":"tts","id":42})") == "header_id");
  CHECK(broken_rule(R"({"service":"tts","budget_ms":"5"})") == "header_budget_ms");
  CHECK(broken_rule(R"({"service":"tts","budget_ms":1.5})") == "header_budget_ms");
  CHECK(broken_rule(R"({"service":"tts","priority":"urgent"})") == "header_priority");
  CHECK(broken_rule(R"({"service":"tts","priority":0})") == "header_priority");
  CHECK(broken_rule(R"({"service":"tts")") == "header_json");
  CHECK(broken_rule(R"({"service":"tts"} x)") == "header_json");
  CHECK(broken_rule("{\"service\":\"\xFF\"}") == "header_json");
  const Result<MeshHeader> header = decode_mesh_header(as_bytes(R"({"service":"tts","id":42})"));
  CHECK(header.error().code == Code::kInvalid);
  CHECK(header.error().text == "field \"id\" of the header must not be a number");
}

TEST_CASE("a budget is at least 1 ms and at most the limit") {
  const auto budget = [](const std::string& number) {
    return broken_rule("{\"service\":\"tts\",\"budget_ms\":" + number + "}");
  };
  CHECK(budget("0") == "header_budget_ms");
  CHECK(budget("-1") == "header_budget_ms");
  CHECK(budget("1") == "");
  CHECK(budget(std::to_string(limits::budget_ms_max)) == "");
  CHECK(budget(std::to_string(limits::budget_ms_max + 1)) == "header_budget_ms");
  CHECK(budget("18446744073709551615") == "header_budget_ms");
  v1::MeshHeader message;
  message.set_service("tts");
  message.set_budget_ms(-1);
  CHECK(broken_rule(message.SerializeAsString()) == "header_budget_ms");
}

TEST_CASE("a JSON header may be nested to the limit and no deeper, long before a stack is at risk") {
  const auto nested = [](size_t depth) {
    return "{\"service\":\"tts\",\"x\":" + std::string(depth - 1, '[') + std::string(depth - 1, ']') + "}";
  };
  CHECK(broken_rule(nested(limits::json_depth_max)) == "");
  CHECK(broken_rule(nested(limits::json_depth_max + 1)) == "header_depth");
  CHECK(broken_rule("{\"x\":" + std::string(8000, '[')) == "header_depth");
}

TEST_CASE("sizes of headers and of their names are bounded") {
  CHECK(broken_rule("{\"service\":\"tts\"}" + std::string(limits::mesh_header_bytes, ' ')) == "header_size");
  CHECK(broken_rule("{\"service\":\"" + std::string(limits::name_bytes, 's') + "\"}") == "");
  CHECK(broken_rule("{\"service\":\"" + std::string(limits::name_bytes + 1, 's') + "\"}") == "header_service");
  v1::MeshHeader message;
  message.set_service("tts");
  message.set_id(std::string(limits::name_bytes + 1, 'i'));
  CHECK(broken_rule(message.SerializeAsString()) == "header_id");
}

TEST_CASE("a protobuf header that is none is refused") {
  CHECK(broken_rule("tts") == "header_protobuf");
  CHECK(broken_rule("\x0A\x05tts") == "header_protobuf");
  CHECK(broken_rule("\x0A\x03tts\x28\x04") == "header_priority");
  CHECK(broken_rule("\x0A\x03tts\x7B") == "header_protobuf");
}

TEST_CASE("a reply's header is written as its request's was") {
  MeshHeader request;
  request.id = "42";
  request.is_json = true;
  CHECK(encode_mesh_reply(request, Code::kOk, nullptr) == R"({"id":"42","code":"OK"})");
  const Error error = deadline();
  CHECK(
      encode_mesh_reply(request, error.code, &error) ==
      R"({"id":"42","code":"DEADLINE","error":"no answer within 4500 ms","mesh":{"service":"tts","hop":"mainpc/main",)"
      R"("stage":"agent","rule":"deadline_passed","hint":"raise budget_ms of the service"}})");

  request.is_json = false;
  v1::MeshReply reply;
  REQUIRE(reply.ParseFromString(encode_mesh_reply(request, Code::kOk, nullptr)));
  CHECK(reply.id() == "42");
  CHECK(reply.code() == v1::CODE_OK);
  REQUIRE(reply.ParseFromString(encode_mesh_reply(request, error.code, &error)));
  CHECK(reply.code() == v1::CODE_DEADLINE);
  CHECK(reply.error() == error.text);
  CHECK(reply.service() == "tts");
  CHECK(reply.hop() == "mainpc/main");
  CHECK(reply.stage() == "agent");
  CHECK(reply.rule() == "deadline_passed");
  CHECK(reply.hint() == error.hint);
  CHECK_FALSE(reply.has_cache());
}

TEST_CASE("a reply's header tells what the cache did, in both formats") {
  const CacheReport hit{
      .verdict = "hit", .tier = "local", .age_ms = 1500, .key_low = 0xAB00000000000001, .key_high = 0xC};
  const CacheReport fetched{.verdict = "fetched", .tier = "", .age_ms = 0, .key_low = 1};
  MeshHeader request;
  request.id = "42";
  request.is_json = true;
  CHECK(
      encode_mesh_reply(request, Code::kOk, nullptr, &hit) ==
      R"({"id":"42","code":"OK","cache":{"verdict":"hit","key":"000000000000000cab00000000000001","tier":"local","age_ms":1500}})");
  CHECK(encode_mesh_reply(request, Code::kOk, nullptr, &fetched) ==
        R"({"id":"42","code":"OK","cache":{"verdict":"fetched","key":"00000000000000000000000000000001"}})");
  request.is_json = false;
  v1::MeshReply reply;
  REQUIRE(reply.ParseFromString(encode_mesh_reply(request, Code::kOk, nullptr, &hit)));
  CHECK(reply.id() == "42");
  CHECK(reply.cache().verdict() == "hit");
  CHECK(reply.cache().tier() == "local");
  CHECK(reply.cache().age_ms() == 1500);
  CHECK(reply.cache().key() == "000000000000000cab00000000000001");
  const Error error = deadline();
  REQUIRE(reply.ParseFromString(encode_mesh_reply(request, error.code, &error, &fetched)));
  CHECK(reply.error() == error.text);
  CHECK(reply.cache().verdict() == "fetched");
  CHECK(reply.cache().tier().empty());
}

TEST_CASE("a protobuf reply's texts are valid UTF-8, so that every language can parse it") {
  Error error = deadline();
  error.service = "\xC3\x28";
  const std::string bytes = encode_mesh_reply(MeshHeader(), error.code, &error);
  v1::MeshReply reply;
  REQUIRE(reply.ParseFromString(bytes));
  CHECK(reply.service() == "\xEF\xBF\xBD(");
}

}  // namespace
}  // namespace mesh::wire
