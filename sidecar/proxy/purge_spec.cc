#include "sidecar/proxy/purge_spec.h"

#include <algorithm>
#include <charconv>
#include <iterator>
#include <nlohmann/json.hpp>
#include <utility>

#include "common/base/limits.h"
#include "common/cache/purges.h"
#include "common/contract/cache_terms.h"
#include "common/wire/message.h"

namespace mesh::proxy {
namespace {

using Json = nlohmann::json;
using Kind = PurgeSpec::Kind;

Unexpected refuse(std::string text) {
  Error error = rule_broken(Code::kInvalid, "purge_order", std::move(text));
  error.stage = "cache";
  error.service = "mesh.cache";
  error.hint =
      R"({"action":"purge"} with "service", or "service" and "tag" or "method", or "key" (32 digits), or "all":true)";
  return Unexpected(std::move(error));
}

bool is_fresh_field(std::string_view name) {
  return std::find(std::begin(contract::kFreshFields), std::end(contract::kFreshFields), name) !=
         std::end(contract::kFreshFields);
}

Json parse(std::string_view text) {
  bool is_too_deep = false;
  const auto watch = [&](int depth, Json::parse_event_t, Json&) {
    is_too_deep = is_too_deep || depth > static_cast<int>(limits::json_depth_max);
    return !is_too_deep;
  };
  Json json = Json::parse(text, watch, false);
  return is_too_deep ? Json() : json;
}

Result<PurgeSpec> spec_of(std::string service, std::optional<std::string> method, std::optional<std::string> tag,
                          const std::optional<std::string>& key, bool is_all) {
  const int choices = (method ? 1 : 0) + (tag ? 1 : 0) + (key ? 1 : 0) + (is_all ? 1 : 0);
  if (choices > 1) return refuse("one of method, tag, key and all at a time");
  if (is_all) return service.empty() ? Result<PurgeSpec>(PurgeSpec{}) : refuse("a service is not all");
  if (key) {
    const auto hash = read_key(*key);
    if (!hash) return refuse("a key has 32 hexadecimal digits");
    return PurgeSpec{.kind = Kind::kKey, .service = std::move(service), .key = *hash};
  }
  if (service.empty()) return refuse("it says nothing that could be purged");
  if (method) return PurgeSpec{.kind = Kind::kMethod, .service = std::move(service), .name = std::move(*method)};
  if (tag) return PurgeSpec{.kind = Kind::kTag, .service = std::move(service), .name = std::move(*tag)};
  return PurgeSpec{.kind = Kind::kService, .service = std::move(service)};
}

}  // namespace

uint64_t PurgeSpec::name_in_book() const {
  if (kind == Kind::kKey) return cache::key_name(key);
  if (kind == Kind::kMethod) return cache::name_hash(service, std::string(1, '\0') + name);
  return cache::name_hash(service, kind == Kind::kTag ? name : std::string());
}

std::string PurgeSpec::text() const {
  const std::string of = service.empty() ? "" : " of " + service;
  switch (kind) {
    case Kind::kAll:
      return "all of all services";
    case Kind::kService:
      return "all" + of;
    case Kind::kMethod:
      return "method " + name + of;
    case Kind::kTag:
      return "tag " + name + of;
    case Kind::kKey:
      return "key " + wire::key_text(key.high, key.low) + of;
  }
  return "";
}

Result<PurgeSpec> read_purge_spec(std::string_view text) {
  if (text.size() > limits::purge_order_bytes) return refuse("it is longer than 4096 bytes");
  const Json json = parse(text);
  if (!json.is_object()) return refuse("it is no JSON object");
  std::string action;
  std::string service;
  std::optional<std::string> method;
  std::optional<std::string> tag;
  std::optional<std::string> key;
  bool is_all = false;
  for (const auto& [name, value] : json.items()) {
    if (is_fresh_field(name)) continue;
    if (name == "all") {
      if (value != true) return refuse("\"all\" is true or not there");
      is_all = true;
      continue;
    }
    const bool is_known = name == "action" || name == "service" || name == "method" || name == "tag" || name == "key";
    if (!is_known) return refuse("nothing can be purged by \"" + name.substr(0, limits::name_bytes) + "\"");
    if (!value.is_string() || value.get_ref<const std::string&>().empty()) {
      return refuse("\"" + name + "\" is no text");
    }
    auto word = value.get<std::string>();
    if (name == "action") action = std::move(word);
    if (name == "service") service = std::move(word);
    if (name == "method") method = std::move(word);
    if (name == "tag") tag = std::move(word);
    if (name == "key") key = std::move(word);
  }
  if (action != "purge") return refuse("the one action is \"purge\"");
  return spec_of(std::move(service), std::move(method), std::move(tag), key, is_all);
}

std::optional<cache::Hash> read_key(std::string_view text) {
  if (text.size() != 32) return std::nullopt;
  cache::Hash hash;
  const auto read = [](std::string_view digits, uint64_t& to) {
    const auto [end, status] = std::from_chars(digits.data(), digits.data() + digits.size(), to, 16);
    return status == std::errc() && end == digits.data() + digits.size();
  };
  if (!read(text.substr(0, 16), hash.high) || !read(text.substr(16), hash.low)) return std::nullopt;
  return hash;
}

}  // namespace mesh::proxy
