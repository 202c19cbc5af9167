// deploy/schema.json against the parser: what an editor accepts by the one, mesh-sidecar accepts by the other.

#include <doctest/doctest.h>

#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <valijson/adapters/nlohmann_json_adapter.hpp>
#include <valijson/schema.hpp>
#include <valijson/schema_parser.hpp>
#include <valijson/validator.hpp>

#include "sidecar/proxy/config.h"

namespace mesh::proxy {
namespace {

using nlohmann::json;

std::string read(const std::string& name) {
  std::ifstream file(std::string(MESH_DEPLOY) + "/" + name);
  REQUIRE_MESSAGE(file.good(), name);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

class Schema {
 public:
  Schema() : document_(json::parse(read("schema.json"))) {
    valijson::SchemaParser parser;
    parser.populateSchema(valijson::adapters::NlohmannJsonAdapter(document_), schema_);
  }
  bool accepts(const std::string& text) {
    const json value = json::parse(text);
    valijson::Validator validator;
    return validator.validate(schema_, valijson::adapters::NlohmannJsonAdapter(value), nullptr);
  }

 private:
  json document_;
  valijson::Schema schema_;
};

bool parser_accepts(const std::string& text) { return parse_config(text, "", true).errors.empty(); }

TEST_CASE("schema and parser accept the hosts of the demo") {
  Schema schema;
  for (const char* name : {"mainpc.json", "pc2.json"}) {
    CHECK(schema.accepts(read(name)));
    CHECK(parser_accepts(read(name)));
  }
}

TEST_CASE("every key that the schema knows is one that the parser takes") {
  const std::string everything = R"({
    "$schema": "schema.json", "host": "h", "insecure": true, "runtime_dir": "/tmp/m", "data_dir": "/tmp/d",
    "sidecars": {"main": {"listen": "tcp://*:7700", "mesh": "ipc://m.sock", "admin": "m.admin"}},
    "agents": {"a": {"service": "s", "endpoint": "tcp://127.0.0.1:1", "socket": "router", "in_flight": 3, "correlate": true,
                     "port": "ipc://a.sock", "sidecar": "main"}},
    "ports": {"p": {"listen": "tcp://127.0.0.1:2", "service": "t", "budget_ms": 1, "priority": "batch", "max_bytes": 1,
                    "class": "file", "linger_ms": 5, "linger_count": 3, "sidecar": "main"}},
    "peers": {"b": {"compression": "never", "bandwidth_mbps": 2.5,
                    "sidecars": {"x": {"endpoint": "tcp://10.0.0.2:7700", "services": ["t"]}}}},
    "contracts": {"s": {"budget_ms": 300000, "priority": "critical", "max_bytes": 67108864,
                        "class": "model", "linger_ms": 0, "linger_count": 256, "method_fields": ["action", "op"],
                        "idempotent": false, "durable": true, "sensitive": false, "idempotency_field": "order",
                        "methods": {"m": {"budget_ms": 5, "priority": "normal", "max_bytes": 7, "class": "network",
                                          "linger_ms": 1000, "linger_count": 1, "idempotent": true, "hedge_ms": 0, "durable": false, "sensitive": true,
                                          "idempotency_field": "order_id"}}},
                  "t": {"method_fields": "action",
                        "cache": {"ttl_s": 0.5, "swr_s": 1, "sie_s": 2, "negative_ttl_s": 3, "scope": "caller", "key_fields": ["a"],
                                  "echo_fields": "request_id", "success_when": {"status": ["ok", true, 1], "x": null}, "tags": "all",
                                  "tiers": ["local"], "version": "2"},
                        "methods": {"w": {"invalidates": ["all", "u:{u}"]}, "r": {"cache": {"ttl_s": 1, "ignore_fields": []}}}},
                  "u": {"method_fields": []}},
    "limits": {"calls_per_target_max": 1, "queued_bytes_per_target": 1, "process_queued_bytes": 1, "connections_per_port_max": 1, "cache_local_bytes": 0}
  })";
  Schema schema;
  CHECK(schema.accepts(everything));
  CHECK(parser_accepts(everything));
}

TEST_CASE("what is wrong in its structure is refused by both") {
  const char* wrong[] = {
      R"({})",
      R"({"host":"h","sidecars":{}})",
      R"({"host":"","sidecars":{"m":{}}})",
      R"({"host":"h","sidecars":{"m":{"listn":"tcp://127.0.0.1:1"}}})",
      R"({"host":"h","sidecars":{"m":{"listen":"127.0.0.1:1"}}})",
      R"({"host":"h","sidecars":{"m":{}},"agents":{"a":{}}})",
      R"({"host":"h","sidecars":{"m":{}},"agents":{"a":{"endpoint":"tcp://127.0.0.1:1","socket":"sub"}}})",
      R"({"host":"h","sidecars":{"m":{}},"agents":{"a":{"endpoint":"tcp://127.0.0.1:1","in_flight":257}}})",
      R"({"host":"h","sidecars":{"m":{}},"agents":{"a":{"endpoint":"tcp://127.0.0.1:1","correlate":"no"}}})",
      R"({"host":"h","sidecars":{"m":{}},"contracts":{"s":{"budget_ms":300001}}})",
      R"({"host":"h","sidecars":{"m":{}},"contracts":{"s":{"methods":{"m":{"ttl":1}}}}})",
      R"({"host":"h","sidecars":{"m":{}},"contracts":{"s":{"method_fields":5}}})",
      R"({"host":"h","sidecars":{"m":{}},"contracts":{"s":{"method_fields":[""]}}})",
      R"({"host":"h","sidecars":{"m":{}},"contracts":{"s":{"durable":"yes"}}})",
      R"({"host":"h","sidecars":{"m":{}},"contracts":{"s":{"idempotency_field":""}}})",
      R"({"host":"h","sidecars":{"m":{}},"contracts":{"s":{"linger_ms":1001}}})",
      R"({"host":"h","sidecars":{"m":{}},"contracts":{"s":{"class":"voice"}}})",
      R"({"host":"h","sidecars":{"m":{}},"peers":{"b":{"compression":"zip"}}})",
      R"({"host":"h","sidecars":{"m":{}},"limits":{"calls_per_target_max":0}})",
  };
  Schema schema;
  for (const char* text : wrong) {
    CHECK_MESSAGE(!schema.accepts(text), text);
    CHECK_MESSAGE(!parser_accepts(text), text);
  }
}

}  // namespace
}  // namespace mesh::proxy
