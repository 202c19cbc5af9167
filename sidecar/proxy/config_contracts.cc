#include "sidecar/proxy/config_contracts.h"

#include <array>
#include <cmath>

namespace mesh::proxy {
namespace {

using contract::CacheTerms;
using contract::Tier;

constexpr int64_t kVram_mb_max = 1 << 20;

class ContractsReader {
 public:
  ContractsReader(Reader& in, contract::Table& table) : in_(in), table_(table) {}

  void read(const Json& contracts) {
    for (const auto& [service, entry] : contracts.items()) {
      const std::string path = "/contracts/" + service;
      if (!in_.is_object(entry, path)) continue;
      in_.only(
          entry, path,
          {"budget_ms", "priority", "max_bytes", "class", "linger_ms", "linger_count", "idempotent", "hedge_ms",
           "durable", "sensitive", "idempotency_field", "cache", "invalidates", "model", "methods", "method_fields"});
      table_.declare_service(service, contract(entry, path));
      if (const auto naming = method_naming(entry, path)) table_.declare_naming(service, *naming);
      for (const auto& [method, terms] : in_.object(entry, path, "methods").items()) {
        const std::string at = path + "/methods/" + method;
        if (!in_.is_object(terms, at)) continue;
        in_.only(terms, at,
                 {"budget_ms", "priority", "max_bytes", "class", "linger_ms", "linger_count", "idempotent", "hedge_ms",
                  "durable", "sensitive", "idempotency_field", "cache", "invalidates", "model"});
        table_.declare_method(service, method, contract(terms, at));
      }
    }
    for (const contract::Conflict& conflict : table_.conflicts()) {
      std::string at = "/contracts/" + conflict.service;
      if (!conflict.method.empty()) at += "/methods/" + conflict.method;
      in_.error(at + "/" + std::string(conflict.key), std::string(conflict.text), std::string(conflict.hint));
    }
  }

 private:
  // What a port cannot say, too.
  contract::Declaration contract(const Json& parent, const std::string& path) {
    contract::Declaration terms = in_.terms(parent, path);
    terms.idempotent = in_.boolean(parent, path, "idempotent");
    terms.hedge_ms = in_.number(parent, path, "hedge_ms", 0, limits::budget_ms_max);
    terms.durable = in_.boolean(parent, path, "durable");
    terms.sensitive = in_.boolean(parent, path, "sensitive");
    terms.idempotency_field = in_.text(parent, path, "idempotency_field", false);
    if (parent.contains("cache")) terms.cache = cache(in_.object(parent, path, "cache"), path + "/cache");
    if (parent.contains("invalidates")) terms.invalidates = tags(parent, path, "invalidates");
    if (parent.contains("model")) terms.model = model(in_.object(parent, path, "model"), path + "/model");
    return terms;
  }

  contract::ModelTerms model(const Json& entry, const std::string& path) {
    in_.only(entry, path, {"name", "vram_mb", "hold_s", "load_s"});
    contract::ModelTerms model;
    model.name = in_.text(entry, path, "name", true).value_or("");
    if (!entry.contains("vram_mb")) {
      in_.error(path + "/vram_mb", "is missing", "what it takes of a GPU's memory when it works; 0: of none");
    }
    model.bytes = static_cast<uint64_t>(in_.number(entry, path, "vram_mb", 0, kVram_mb_max).value_or(0)) * limits::MiB;
    model.hold_ms = in_.span_ms(entry, path, "hold_s").value_or(model.hold_ms);
    model.load_ms = in_.span_ms(entry, path, "load_s").value_or(0);
    return model;
  }

  // The name of one field, or a list of them.
  std::optional<contract::MethodNaming> method_naming(const Json& parent, const std::string& path) {
    const auto at = parent.find("method_fields");
    if (at == parent.end()) return std::nullopt;
    return contract::MethodNaming{
        texts(*at, path + "/method_fields", "e.g. \"action\"; [] if bodies are not to be read")};
  }

  // One text, or a list of them.
  std::vector<std::string> texts(const Json& value, const std::string& path, std::string hint) {
    std::vector<std::string> found;
    const Json list = value.is_array() ? value : Json::array({value});
    for (const Json& text : list) {
      if (text.is_string() && !text.get_ref<const std::string&>().empty()) {
        found.push_back(text.get<std::string>());
      } else {
        in_.error(path, "must be a text, or a list of texts", std::move(hint));
        return {};
      }
    }
    return found;
  }
  std::vector<std::string> names(const Json& parent, const std::string& path, const char* key) {
    const auto at = parent.find(key);
    if (at == parent.end()) return {};
    return texts(*at, path + "/" + key, "names of top-level fields, e.g. [\"text\", \"voice\"]");
  }

  CacheTerms cache(const Json& entry, const std::string& path) {
    in_.only(entry, path,
             {"ttl_s", "swr_s", "sie_s", "negative_ttl_s", "scope", "key_fields", "ignore_fields", "echo_fields",
              "success_when", "tags", "tiers", "version"});
    CacheTerms cache;
    if (!entry.contains("ttl_s")) {
      in_.error(path + "/ttl_s", "is missing", "for how many seconds a reply stays right; 0 takes the cache away");
    }
    cache.ttl_ms = in_.span_ms(entry, path, "ttl_s").value_or(0);
    cache.stale_while_revalidate_ms = in_.span_ms(entry, path, "swr_s").value_or(0);
    cache.stale_if_error_ms = in_.span_ms(entry, path, "sie_s").value_or(0);
    cache.negative_ttl_ms = in_.span_ms(entry, path, "negative_ttl_s").value_or(0);
    if (cache.negative_ttl_ms > limits::negative_ttl_ms_max) {
      in_.error(path + "/negative_ttl_s", "keeps a failure for longer than a minute", "some seconds");
    }
    const std::string scope = in_.text(entry, path, "scope", false).value_or("shared");
    cache.is_per_caller = scope == "caller";
    if (scope != "caller" && scope != "shared") in_.error(path + "/scope", "unknown scope", "shared or caller");
    cache.key_fields = names(entry, path, "key_fields");
    if (entry.contains("ignore_fields")) {
      cache.ignore_fields = names(entry, path, "ignore_fields");
      if (!cache.key_fields.empty()) {
        in_.error(path + "/ignore_fields", "says nothing where key_fields names all that counts", "leave one out");
      }
    }
    cache.echo_fields = names(entry, path, "echo_fields");
    if (entry.contains("tags")) cache.tags = tags(entry, path, "tags");
    cache.version = in_.text(entry, path, "version", false).value_or("");
    read_success(in_.object(entry, path, "success_when"), path + "/success_when", cache);
    read_tiers(entry, path, cache);
    return cache;
  }

  std::vector<contract::TagPattern> tags(const Json& parent, const std::string& path, const char* key) {
    std::vector<contract::TagPattern> patterns;
    const std::string hint = "e.g. [\"user:{user_id}\"], with fields of the request in braces";
    for (const std::string& text : texts(parent[key], path + "/" + key, hint)) {
      if (!contract::TagPattern::parse(text, patterns.emplace_back())) {
        in_.error(path + "/" + key, "has braces that do not match in '" + text + "'", hint);
      }
    }
    if (patterns.size() > limits::cache_tags_max) {
      in_.error(path + "/" + key, "has more than " + std::to_string(limits::cache_tags_max) + " tags", "fewer");
    }
    return patterns;
  }

  void read_success(const Json& entry, const std::string& path, CacheTerms& cache) {
    for (const auto& [field, allowed] : entry.items()) {
      contract::Success& success = cache.success_when.emplace_back(contract::Success{field, {}});
      for (const Json& value : allowed.is_array() ? allowed : Json::array({allowed})) {
        if (value.is_structured()) {
          in_.error(path + "/" + field, "must be a scalar, or a list of them",
                    "e.g. {\"status\": [\"success\", \"ok\"]}");
        } else {
          success.values.push_back(value.is_string() ? value.get<std::string>() : value.dump());
        }
      }
    }
  }

  void read_tiers(const Json& entry, const std::string& path, CacheTerms& cache) {
    constexpr std::array<std::string_view, 4> tiers = {"local", "shared", "home", "disk"};
    if (cache.is_per_caller) cache.tiers = contract::tier_bit(Tier::kLocal) | contract::tier_bit(Tier::kShared);
    const auto at = entry.find("tiers");
    if (at == entry.end()) return;
    cache.tiers = 0;
    const std::string hint = "local, shared, home and disk are there";
    for (const std::string& name : texts(*at, path + "/tiers", hint)) {
      const auto known = std::find(tiers.begin(), tiers.end(), name);
      if (known == tiers.end()) {
        in_.error(path + "/tiers", "unknown tier '" + name + "'", hint);
      } else {
        cache.tiers |= contract::tier_bit(static_cast<Tier>(known - tiers.begin()));
      }
    }
    if (cache.is_per_caller && (cache.uses(Tier::kHome) || cache.uses(Tier::kDisk))) {
      in_.error(path + "/tiers", "keeps beside the agent what is for one caller only", "local and shared");
    }
    if (cache.tiers == 0) in_.error(path + "/tiers", "names none", hint + "; without it all are used");
  }

  Reader& in_;
  contract::Table& table_;
};

}  // namespace

void read_contracts(Reader& in, const Json& contracts, contract::Table& table) {
  ContractsReader(in, table).read(contracts);
}

}  // namespace mesh::proxy
