#include "common/contract/contract.h"

#include <doctest/doctest.h>

#include "common/base/limits.h"

namespace mesh::contract {
namespace {

Table table() {
  Table table;
  table.declare_service("translation", {.budget_ms = 4000, .priority = Priority::kBatch, .max_bytes = 1000});
  table.declare_method("translation", "translate", {.budget_ms = 3000, .priority = {}, .max_bytes = {}});
  table.declare_method("vision", "caption", {.budget_ms = {}, .priority = Priority::kInteractive, .max_bytes = {}});
  return table;
}

TEST_CASE("a service nobody declared gets the defaults of a drop-in port") {
  const Terms terms = table().lookup("unheard-of", "translate");
  CHECK(terms.budget_ms == limits::dropin_budget_ms);
  CHECK(terms.priority == Priority::kNormal);
  CHECK(terms.max_bytes == limits::dropin_body_bytes);
}

TEST_CASE("what a method leaves out comes from its service") {
  const Terms terms = table().lookup("translation", "translate");
  CHECK(terms.budget_ms == 3000);
  CHECK(terms.priority == Priority::kBatch);
  CHECK(terms.max_bytes == 1000);
}

TEST_CASE("a method nobody declared, and no method at all, get the service's terms") {
  for (const char* method : {"detect", ""}) {
    const Terms terms = table().lookup("translation", method);
    CHECK(terms.budget_ms == 4000);
    CHECK(terms.priority == Priority::kBatch);
    CHECK(terms.max_bytes == 1000);
  }
}

TEST_CASE("a method may be declared without its service, and the rest are defaults") {
  const Terms terms = table().lookup("vision", "caption");
  CHECK(terms.budget_ms == limits::dropin_budget_ms);
  CHECK(terms.priority == Priority::kInteractive);
  CHECK(terms.max_bytes == limits::dropin_body_bytes);
}

TEST_CASE("a method's terms do not leak to the same method of another service") {
  CHECK(table().lookup("vision", "translate").budget_ms == limits::dropin_budget_ms);
}

TEST_CASE("a conflict is found between a method and what it inherits, and told once") {
  Table conflicting;
  conflicting.declare_service("pay", {.durable = true, .idempotency_field = "order"});
  CHECK(conflicting.conflicts().empty());
  conflicting.declare_method("pay", "peek", {.idempotent = true});
  conflicting.declare_method("pay", "refund", {});
  const auto conflicts = conflicting.conflicts();
  REQUIRE(conflicts.size() == 1);
  CHECK(conflicts[0].method == "peek");
  CHECK(conflicts[0].key == "durable");
  CHECK(*conflicting.lookup("pay", "refund").idempotency_field == "order");
}

TEST_CASE("an idempotency key is a text or a whole number, and what cannot be one is not taken for none") {
  MethodReader reader;
  const auto read = [&](std::string_view body) { return reader.read_key(as_bytes(body), "order"); };
  CHECK(read(R"({"order":"A-7","x":1})") == "A-7");
  CHECK(read(R"({"x":{"order":"inner"},"order":42})") == "42");
  CHECK(read(R"({"x":1})") == std::nullopt);
  CHECK(read("ping") == std::nullopt);
  for (const char* body : {R"({"order":""})", R"({"order":1.5})", R"({"order":null})", R"({"order":["a"]})",
                           R"({"order":"a"})", R"({"x":1,)", R"({"x" 1,"order":"a"})"}) {
    CHECK_MESSAGE(read(body) == "", body);
  }
  CHECK(read(R"({"order":")" + std::string(limits::name_bytes + 1, 'k') + R"("})") == "");
  CHECK(read(R"({"order":"later"})") == "later");
  const std::string_view body = R"({"action":"pay","order":"A-7"})";
  const std::string_view method = reader.read(as_bytes(body), {});
  CHECK(read(body) == "A-7");
  CHECK(method == "pay");
}

TEST_CASE("a service may be declared after its methods") {
  Table late;
  late.declare_method("tts", "say", {.budget_ms = 700, .priority = {}, .max_bytes = {}});
  late.declare_service("tts", {.budget_ms = 900, .priority = {}, .max_bytes = 5});
  CHECK(late.lookup("tts", "say").budget_ms == 700);
  CHECK(late.lookup("tts", "say").max_bytes == 5);
  CHECK(late.lookup("tts", "").budget_ms == 900);
}

std::string method_in(std::string_view body, const MethodNaming& naming = {}) {
  MethodReader reader;
  return std::string(reader.read(as_bytes(body), naming));
}

TEST_CASE("each dialect that agents speak names its method") {
  CHECK(method_in(R"({"action":"translate","text":"hello"})") == "translate");
  CHECK(method_in(R"({"command":"LOAD_MODEL","payload":{"action":"not this one"}})") == "LOAD_MODEL");
  CHECK(method_in(R"({"payload":[{"type":"x"}],"type":"ocr"})") == "ocr");
  CHECK(method_in(R"({"request_type":"a\u0062c"})") == "abc");
  CHECK(method_in("ping") == "ping");
  CHECK(method_in(" \n\"health_check\"\n") == "health_check");
}

TEST_CASE("of several fields the first of the list counts, wherever it stands, and only if it is a text") {
  CHECK(method_in(R"({"type":"t","command":"c","action":"a"})") == "a");
  CHECK(method_in(R"({"type":"t","command":"c","action":5})") == "c");
  CHECK(method_in(R"({"op":"x","action":"a"})", {.fields = {"op"}}) == "x");
  CHECK(method_in(R"({"action":"a"})", {.fields = {}}).empty());
}

TEST_CASE("what names no method gives none") {
  const std::string long_name(limits::name_bytes + 1, 'x');
  const std::string deep = "{\"x\":" + std::string(100'000, '[') + std::string(100'000, ']') + "}";
  const std::string bodies[] = {"",
                                " ",
                                "{}",
                                "[]",
                                "[1,2]",
                                "\xFF\xFE",
                                "\"",
                                "\"\"",
                                "a b",
                                long_name,
                                "{\"action\":\"" + long_name + "\"}",
                                "{\"action\":\"a\\n\"}",
                                "{\"action\":\"\"}",
                                deep,
                                "{\"other\":\"a\"}"};
  for (const std::string& body : bodies) CHECK_MESSAGE(method_in(body).empty(), body.substr(0, 60));
}

TEST_CASE("a method is found in a body of any size, behind whatever stands before it") {
  const std::string text(5 * limits::MiB, 'x');
  CHECK(method_in(R"({"data":")" + text + R"(","action":"a"})") == "a");
  CHECK(method_in(R"({"action":"a","data":")" + text + "\"}") == "a");
  for (const char* before : {R"("}{\\\"]\\")", R"([{"action":"no"},["]"],{"x":"\"}"}])", R"({"action":{"type":"no"}})",
                             "-1.5e7", "null", "NaN"}) {
    CHECK_MESSAGE(method_in(std::string("{ \"x\" : ") + before + ",\t\"comm\\u0061nd\" : \"b\" }") == "b", before);
  }
}

TEST_CASE("a body that says which method, but not so that it can be read, is told from one that says none") {
  const std::string bodies[] = {"{",
                                "{\"action\":",
                                "{\"action\":\"a",
                                "{\"action\":\"a\"} {}",
                                "{\"x\":1,}",
                                "{\"x\" 1}",
                                "{\"x\":}",
                                "{\"x\":[}",
                                "{\"x\":\"}",
                                "{'action':'a'}",
                                "{\"action\":\"\\q\"}",
                                std::string("{\"action\"\0}", 11)};
  for (const std::string& body : bodies) CHECK_MESSAGE(method_in(body) == kUnreadableMethod, body);
}

TEST_CASE("of several frames that one is read which is a JSON object, and of two objects none") {
  MethodReader reader;
  const Slice object = Slice::copy_of(std::string_view(R"({"action":"a","order":"k"})"));
  const Slice other = Slice::copy_of(std::string_view("\x01{}"));
  CHECK(reader.read(std::vector<Slice>{other, object, other}, {}) == "a");
  CHECK(reader.read_key(std::vector<Slice>{other, object}, "order") == "k");
  CHECK(reader.read(std::vector<Slice>{object, object}, {}) == kUnreadableMethod);
  CHECK(reader.read_key(std::vector<Slice>{object, object}, "order") == "");
  CHECK(reader.read(std::vector<Slice>{other, other}, {}).empty());
  CHECK(reader.read_key(std::vector<Slice>{other, other}, "order") == std::nullopt);
}

TEST_CASE("what is left of a body without some fields is what is written before, between and behind them") {
  MethodReader reader;
  const auto left = [&](std::string_view body) {
    std::vector<std::string_view> pieces;
    std::string text;
    if (!reader.leave_out(as_bytes(body), kFreshFields, pieces)) return std::string("unreadable");
    for (const std::string_view piece : pieces) text += std::string(piece) + "|";
    return text;
  };
  CHECK(left(R"({"request_id":"a","x":{"timestamp":1},"timest\u0061mp":2.5} )") == R"({"|,"x":{"timestamp":1},"|}|)");
  CHECK(left(R"({"x":1})") == R"({"x":1}|)");
  CHECK(left(R"({"request_id":"a")") == "unreadable");
  CHECK(left("[]") == "unreadable");
}

TEST_CASE("a call that may be of any method needs the largest model that one of them computes with") {
  Table table;
  CHECK(table.lookup("eye", kUnreadableMethod).model == nullptr);
  for (const auto& [method, bytes] : {std::pair{"small", 1}, {"large", 3}, {"middle", 2}, {"none", 0}}) {
    Declaration terms;
    terms.model = ModelTerms{.name = method, .bytes = static_cast<uint64_t>(bytes)};
    table.declare_method("eye", method, terms);
  }
  REQUIRE(table.lookup("eye", kUnreadableMethod).model != nullptr);
  CHECK(table.lookup("eye", kUnreadableMethod).model->name == "large");
  CHECK(table.lookup("eye", "none").model == nullptr);
  CHECK(table.needs_model("eye"));
}

TEST_CASE("a call that may be of any method has the strictest terms of all") {
  Table table;
  Declaration service;
  service.idempotent = true;
  service.hedge_ms = 20;
  service.cache.emplace().ttl_ms = 1000;
  table.declare_service("shop", service);
  table.declare_method("shop", "look", {});
  CHECK(table.lookup("shop", kUnreadableMethod).idempotent);
  CHECK(table.lookup("shop", kUnreadableMethod).cache == nullptr);
  CHECK(table.lookup("shop", kUnreadableMethod).hedge_ms == 0);
  CHECK(table.lookup("shop", kUnreadableMethod).invalidates == nullptr);
  Declaration pay;
  pay.idempotent = false;
  pay.durable = true;
  pay.sensitive = true;
  pay.idempotency_field = "order";
  TagPattern::parse("user:{user}", pay.invalidates.emplace().emplace_back());
  table.declare_method("shop", "pay", pay);
  const Terms strict = table.lookup("shop", kUnreadableMethod);
  CHECK(!strict.idempotent);
  CHECK(strict.durable);
  CHECK(strict.sensitive);
  REQUIRE(strict.idempotency_field != nullptr);
  REQUIRE(strict.invalidates != nullptr);
  CHECK(strict.invalidates->empty());
  CHECK(table.lookup("shop", "").idempotent);
  CHECK(table.lookup("shop", "").cache != nullptr);
}

TEST_CASE("a broken body leaves the reader fit for the next") {
  MethodReader reader;
  CHECK(reader.read(as_bytes(std::string_view(R"({"action":"a", "x": tru)")), {}) == kUnreadableMethod);
  CHECK(reader.read(as_bytes(std::string_view(R"({"action":"b"})")), {}) == "b");
}

TEST_CASE("bodies are read only where methods are declared, and a port keeps what the largest of them may have") {
  Table tables = table();
  CHECK(tables.naming("unheard-of") == nullptr);
  REQUIRE(tables.naming("translation") != nullptr);
  tables.declare_naming("translation", {.fields = {}});
  CHECK(tables.naming("translation") == nullptr);
  CHECK(tables.largest_bytes("translation") == 1000);
  tables.declare_method("translation", "document", {.budget_ms = {}, .priority = {}, .max_bytes = 9000});
  CHECK(tables.largest_bytes("translation") == 9000);
}

TEST_CASE("a method's cache replaces its service's, and a method that writes has none unless it says so") {
  Table table;
  Declaration service;
  service.cache.emplace().ttl_ms = 1000;
  service.cache->tiers = tier_bit(Tier::kLocal);
  table.declare_service("voices", service);
  Declaration writes;
  writes.invalidates.emplace(1);
  table.declare_method("voices", "set", writes);
  Declaration other;
  other.cache.emplace().ttl_ms = 5;
  table.declare_method("voices", "list", other);
  Declaration none;
  none.cache.emplace();
  table.declare_method("voices", "now", none);
  CHECK(table.lookup("voices", "anything").cache->ttl_ms == 1000);
  CHECK(table.lookup("voices", "list").cache->ttl_ms == 5);
  CHECK(table.lookup("voices", "now").cache == nullptr);
  CHECK(table.lookup("voices", "set").cache == nullptr);
  CHECK(table.lookup("voices", "set").invalidates->size() == 1);
  CHECK(table.lookup("tts", "list").cache == nullptr);
  CHECK(table.conflicts().empty());
}

}  // namespace
}  // namespace mesh::contract
