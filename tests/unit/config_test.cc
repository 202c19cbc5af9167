#include "sidecar/proxy/config.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <string>

#include "common/base/limits.h"

namespace mesh::proxy {
namespace {

// The smallest good file, with `more` put in.
std::string file(const std::string& more) {
  return R"({"host":"h","sidecars":{"main":{"listen":"tcp://127.0.0.1:7700"}})" + (more.empty() ? "" : "," + more) +
         "}";
}

bool complains(const ConfigResult& result, std::string_view path) {
  return std::any_of(result.errors.begin(), result.errors.end(), [&](const ConfigError& e) { return e.path == path; });
}

TEST_CASE("one entry is enough for an agent of one's own") {
  const auto result = parse_config(
      file(R"("agents":{"mine":{"endpoint":"tcp://127.0.0.1:5799","port":"tcp://127.0.0.1:6799"}})"), "", false);
  REQUIRE(result.errors.empty());
  REQUIRE(result.config.agents.size() == 1);
  CHECK(result.config.agents[0].service == "mine");
  CHECK(result.config.agents[0].in_flight == 1);
  REQUIRE(result.config.ports.size() == 1);
  CHECK(result.config.ports[0].listen.port == 6799);
}

TEST_CASE("a port may be for orders to what is kept, and nobody else may serve them") {
  CHECK(parse_config(file(R"("ports":{"p":{"listen":"tcp://127.0.0.1:6700","service":"mesh.cache"}})"), "", false)
            .errors.empty());
  CHECK(complains(parse_config(file(R"("agents":{"mesh.cache":{"endpoint":"tcp://127.0.0.1:1"}})"), "", false),
                  "/agents/mesh.cache/service"));
  CHECK(
      complains(parse_config(file(R"("ports":{"p":{"listen":"tcp://127.0.0.1:6700","service":"mesh.x"}})"), "", false),
                "/ports/p/listen"));
}

TEST_CASE("every kind of mistake is told with its path") {
  const std::pair<std::string, std::string> mistakes[] = {
      {R"("agnets":{})", "/agnets"},
      {R"("agents":{"x":{"endpoint":"tcp://192.168.0.9:1"}})", "/agents/x/endpoint"},
      {R"("agents":{"x":{"endpoint":"tcp://somewhere:1"}})", "/agents/x/endpoint"},
      {R"("agents":{"x":{"endpoint":"tcp://127.0.0.1:99999"}})", "/agents/x/endpoint"},
      {R"("agents":{"x":{}})", "/agents/x/endpoint"},
      {R"("agents":{"x":{"endpoint":"ipc://@abstract"}})", "/agents/x/endpoint"},
      {R"("agents":{"x":{"endpoint":"tcp://127.0.0.1:1","socket":"pub"}})", "/agents/x/socket"},
      {R"("agents":{"x":{"endpoint":"tcp://127.0.0.1:1","in_flight":0}})", "/agents/x/in_flight"},
      {R"("agents":{"x":{"endpoint":"tcp://127.0.0.1:1","correlate":false,"in_flight":2}})", "/agents/x/in_flight"},
      {R"("agents":{"x":{"endpoint":"tcp://127.0.0.1:1","sidecar":"other"}})", "/agents/x/sidecar"},
      {R"("agents":{"x":{"endpoint":"tcp://127.0.0.1:1","port":"tcp://127.0.0.1:7700"}})", "/agents/x/port"},
      {R"("ports":{"p":{"listen":"tcp://127.0.0.1:6700"}})", "/ports/p/listen"},
      {R"("peers":{"b":{"sidecars":{"main":{"endpoint":"tcp://10.0.0.2:7700","services":[]}}}})",
       "/peers/b/sidecars/main/endpoint"},
      {R"("peers":{"b":{"compression":"lots","sidecars":{}}})", "/peers/b/compression"},
      {R"("contracts":{"x":{"budget_ms":0}})", "/contracts/x/budget_ms"},
      {R"("contracts":{"x":{"methods":{"m":{"priority":"urgent"}}}})", "/contracts/x/methods/m/priority"},
      {R"("contracts":{"x":{"durable":true,"sensitive":true}})", "/contracts/x/durable"},
      {R"("contracts":{"x":{"durable":true,"methods":{"m":{"idempotent":true}}}})", "/contracts/x/methods/m/durable"},
      {R"("contracts":{"x":{"hedge_ms":50}})", "/contracts/x/hedge_ms"},
      {R"("contracts":{"x":{"hedge_ms":500,"idempotent":true,"budget_ms":400}})", "/contracts/x/hedge_ms"},
      {R"("contracts":{"x":{"hedge_ms":50,"idempotent":true,"idempotency_field":"a"}})", "/contracts/x/hedge_ms"},
      {R"("contracts":{"x":{"idempotency_field":"request_id"}})", "/contracts/x/idempotency_field"},
      {R"("ports":{"p":{"listen":"tcp://127.0.0.1:6700","durable":true}})", "/ports/p/durable"},
      {R"("contracts":{"x":{"cache":{}}})", "/contracts/x/cache/ttl_s"},
      {R"("contracts":{"x":{"cache":{"ttl_s":-1}}})", "/contracts/x/cache/ttl_s"},
      {R"("contracts":{"x":{"cache":{"ttl_s":1,"negative_ttl_s":61}}})", "/contracts/x/cache/negative_ttl_s"},
      {R"("contracts":{"x":{"cache":{"ttl_s":1,"scope":"all"}}})", "/contracts/x/cache/scope"},
      {R"("contracts":{"x":{"cache":{"ttl_s":1,"tiers":["ram"]}}})", "/contracts/x/cache/tiers"},
      {R"("contracts":{"x":{"cache":{"ttl_s":1,"tags":["a{b"]}}})", "/contracts/x/cache/tags"},
      {R"("contracts":{"x":{"invalidates":[""]}})", "/contracts/x/invalidates"},
      {R"("contracts":{"x":{"cache":{"ttl_s":1,"key_fields":["a"],"ignore_fields":["b"]}}})",
       "/contracts/x/cache/ignore_fields"},
      {R"("contracts":{"x":{"cache":{"ttl_s":1,"success_when":{"a":{}}}}})", "/contracts/x/cache/success_when/a"},
      {R"("contracts":{"x":{"cache":{"ttl_s":1},"durable":true}})", "/contracts/x/cache"},
      {R"("contracts":{"x":{"cache":{"ttl_s":1},"sensitive":true}})", "/contracts/x/cache"},
      {R"("contracts":{"x":{"cache":{"ttl_s":1},"invalidates":["a"]}})", "/contracts/x/cache"},
      {R"("contracts":{"x":{"cache":{"ttl_s":1,"scope":"caller","tiers":"home"}}})", "/contracts/x/cache/tiers"},
      {R"("limits":{"cache_local_bytes":-1})", "/limits/cache_local_bytes"},
      {R"("limits":{"calls_per_target_max":1e3})", "/limits/calls_per_target_max"},
      {R"("insecure":"yes")", "/insecure"},
  };
  for (const auto& [text, path] : mistakes) {
    const auto result = parse_config(file(text), "", false);
    CHECK_MESSAGE(complains(result, path), text);
  }
}

TEST_CASE("a service has as many instances as a call can tell apart, and not one more") {
  for (const size_t count : {limits::instances_max, limits::instances_max + 1}) {
    std::string sidecars;
    for (size_t i = 0; i < count; ++i) {
      sidecars += (i > 0 ? ",\"s" : "\"s") + std::to_string(i) +
                  R"(":{"endpoint":"tcp://127.0.0.1:7701","services":["x","x"]})";
    }
    const auto result = parse_config(file(R"("peers":{"b":{"sidecars":{)" + sidecars + "}}}"), "", false);
    CHECK(complains(result, "/peers") == (count > limits::instances_max));
    if (result.errors.empty()) CHECK(result.config.peers[0].services.size() == 1);
  }
}

TEST_CASE("only a sidecar whose agents keep results on disk has a store") {
  const std::string agents = R"("agents":{"pay":{"endpoint":"tcp://127.0.0.1:5799"}},"data_dir":"/d",)";
  CHECK(parse_config(file(agents + R"("contracts":{"pay":{"durable":true}})"), "", false).config.data_path ==
        "/d/main.calls");
  CHECK(parse_config(file(agents + R"("contracts":{"pay":{"methods":{"m":{"durable":true}}}})"), "", false)
            .config.data_path == "/d/main.calls");
  CHECK(parse_config(file(agents + R"("contracts":{"other":{"durable":true}})"), "", false).config.data_path.empty());
}

TEST_CASE("all mistakes of a file are told at once") {
  const auto result =
      parse_config(R"({"sidecars":{"main":{"listen":5}},"agents":{"x":{}},"limits":{"y":1}})", "", false);
  CHECK(complains(result, "/host"));
  CHECK(complains(result, "/sidecars/main/listen"));
  CHECK(complains(result, "/agents/x/endpoint"));
  CHECK(complains(result, "/limits/y"));
}

TEST_CASE("what is no JSON, no object or too deep is an error and no exception") {
  const std::string deep = std::string(200'000, '[') + std::string(200'000, ']');
  for (const std::string& text : {std::string("{"), std::string("[]"), std::string(), std::string("\xFF\xFE"), deep}) {
    CHECK_FALSE(parse_config(text, "", false).errors.empty());
  }
}

TEST_CASE("a file with several sidecars is cut to one, and the others become peers on the own host") {
  const std::string text =
      R"({"host":"h","sidecars":{"s1":{"listen":"tcp://127.0.0.1:7701"},"s2":{"listen":"tcp://127.0.0.1:7702"}},
    "agents":{"a":{"endpoint":"tcp://127.0.0.1:1","sidecar":"s1"},"b":{"endpoint":"tcp://127.0.0.1:2","sidecar":"s2"}}})";
  CHECK_FALSE(parse_config(text, "", false).errors.empty());
  const auto result = parse_config(text, "s1", false);
  REQUIRE(result.errors.empty());
  REQUIRE(result.config.agents.size() == 1);
  CHECK(result.config.agents[0].name == "a");
  REQUIRE(result.config.peers.size() == 1);
  CHECK(result.config.peers[0].is_own_host);
  CHECK(result.config.peers[0].services == std::vector<std::string>{"b"});
}

TEST_CASE("a link that leaves the computer needs the word insecure, and is warned about with it") {
  const std::string peer = R"("peers":{"b":{"sidecars":{"main":{"endpoint":"tcp://10.0.0.2:7700","services":["x"]}}}})";
  CHECK_FALSE(parse_config(file(peer), "", false).errors.empty());
  const auto lab = parse_config(file(R"("insecure":true,)" + peer), "", false);
  CHECK(lab.errors.empty());
  CHECK(lab.warnings.size() == 1);
}

TEST_CASE("a number that nothing can hold is an error like any other") {
  const ConfigResult result = parse_config("12333333331e2333333333333333333", "", false);
  REQUIRE(result.errors.size() == 1);
  CHECK(result.errors[0].text.find("not JSON") != std::string::npos);
}

}  // namespace
}  // namespace mesh::proxy
