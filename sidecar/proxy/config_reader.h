// Reads values out of a JSON configuration, and keeps every finding with its path and a hint. Private to config.cc.
#pragma once

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "sidecar/proxy/config.h"

namespace mesh::proxy {

using Json = nlohmann::json;

inline constexpr size_t kSocketPathMax = 107;  // sun_path less its end

// Reads one file. Every finding is kept, so that all are told at once.
class Reader {
 public:
  explicit Reader(ConfigResult& result) : result_(result) {}

  void error(std::string path, std::string text, std::string hint) {
    result_.errors.push_back({std::move(path), std::move(text), std::move(hint)});
  }

  // Tells of keys that mean nothing, with the one that was probably meant.
  void only(const Json& object, const std::string& path, std::initializer_list<std::string_view> known) {
    for (const auto& [key, value] : object.items()) {
      if (std::find(known.begin(), known.end(), key) != known.end()) continue;
      std::string names;
      for (const std::string_view name : known) names += (names.empty() ? "" : ", ") + std::string(name);
      error(path + "/" + key, "unknown key", "known here: " + names);
    }
  }

  const Json& object(const Json& parent, const std::string& path, const char* key) {
    static const Json empty = Json::object();
    const auto at = parent.find(key);
    if (at == parent.end()) return empty;
    if (at->is_object()) return *at;
    error(path + "/" + key, "must be an object", "write {…} with one entry per name");
    return empty;
  }

  // True if `value` is an object, told otherwise.
  bool is_object(const Json& value, const std::string& path) {
    if (!value.is_object()) error(path, "must be an object", "write {…}");
    return value.is_object();
  }

  std::optional<std::string> text(const Json& parent, const std::string& path, const char* key, bool required) {
    const auto at = parent.find(key);
    if (at == parent.end()) {
      if (required) error(path + "/" + key, "is missing", std::string("add \"") + key + "\": \"…\"");
      return std::nullopt;
    }
    if (!at->is_string() || at->get_ref<const std::string&>().empty()) {
      error(path + "/" + key, "must be a text that is not empty", "write it in double quotes");
      return std::nullopt;
    }
    return at->get<std::string>();
  }

  std::optional<int64_t> number(const Json& parent, const std::string& path, const char* key, int64_t least,
                                int64_t most) {
    const auto at = parent.find(key);
    if (at == parent.end()) return std::nullopt;
    const bool fits = at->is_number_integer() && (!at->is_number_unsigned() || at->get<uint64_t>() <= INT64_MAX) &&
                      at->get<int64_t>() >= least && at->get<int64_t>() <= most;
    if (!fits) {
      error(path + "/" + key, "must be a whole number from " + std::to_string(least) + " to " + std::to_string(most),
            "");
      return std::nullopt;
    }
    return at->get<int64_t>();
  }

  // Seconds, also parts of one, as ms.
  std::optional<int64_t> span_ms(const Json& parent, const std::string& path, const char* key) {
    const auto at = parent.find(key);
    if (at == parent.end()) return std::nullopt;
    constexpr double kMost_s = 31'536'000;
    if (!at->is_number() || at->get<double>() < 0 || at->get<double>() > kMost_s) {
      error(path + "/" + key, "must be a number of seconds from 0 to a year", "e.g. 300, or 0.5");
      return std::nullopt;
    }
    return static_cast<int64_t>(at->get<double>() * 1000);
  }

  std::optional<bool> boolean(const Json& parent, const std::string& path, const char* key) {
    const auto at = parent.find(key);
    if (at == parent.end()) return std::nullopt;
    if (!at->is_boolean()) {
      error(path + "/" + key, "must be true or false", "without quotes");
      return std::nullopt;
    }
    return at->get<bool>();
  }

  std::optional<Endpoint> endpoint(const std::string& text, const std::string& path, const std::string& runtime_dir,
                                   bool wildcard) {
    Endpoint endpoint{.is_ipc = false, .address = {}, .port = 0, .text = text};
    if (text.starts_with("ipc://")) {
      if (text.starts_with("ipc://@")) {
        error(path, "abstract sockets are not supported", "use a path: it has permissions, an abstract name has none");
        return std::nullopt;
      }
      endpoint.is_ipc = true;
      endpoint.address = absolute(text.substr(6), runtime_dir);
      if (endpoint.address.size() > kSocketPathMax) {
        error(path, "the socket's path is longer than 107 bytes", "choose a shorter runtime_dir");
        return std::nullopt;
      }
      return endpoint;
    }
    const size_t colon = text.rfind(':');
    if (!text.starts_with("tcp://") || colon == std::string::npos || colon < 6) {
      error(path, "is no endpoint: " + text, "write tcp://127.0.0.1:5701 or ipc://name.sock");
      return std::nullopt;
    }
    std::string host = text.substr(6, colon - 6);
    if (host == "localhost") host = "127.0.0.1";
    if (host == "*" && wildcard) host = "0.0.0.0";
    if (host.size() > 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
    in6_addr parsed{};
    if (inet_pton(AF_INET, host.c_str(), &parsed) != 1 && inet_pton(AF_INET6, host.c_str(), &parsed) != 1) {
      error(path, "'" + host + "' is not a numeric address",
            "names are not looked up: write the address, e.g. 192.168.1.20");
      return std::nullopt;
    }
    const char* digits = text.c_str() + colon + 1;
    const char* end = text.c_str() + text.size();
    const auto [at, status] = std::from_chars(digits, end, endpoint.port);
    if (status != std::errc() || at != end || endpoint.port == 0) {
      error(path, "has no port from 1 to 65535", "write it behind the address, e.g. :5701");
      return std::nullopt;
    }
    endpoint.address = host;
    return endpoint;
  }

  std::optional<Endpoint> endpoint_at(const Json& parent, const std::string& path, const char* key,
                                      const std::string& runtime_dir, bool required, bool wildcard = false) {
    const auto value = text(parent, path, key, required);
    if (!value) return std::nullopt;
    return endpoint(*value, path + "/" + key, runtime_dir, wildcard);
  }

  contract::Declaration terms(const Json& parent, const std::string& path) {
    contract::Declaration terms;
    terms.budget_ms = number(parent, path, "budget_ms", 1, limits::budget_ms_max);
    if (const auto bytes = number(parent, path, "max_bytes", 1, limits::message_bytes)) {
      terms.max_bytes = static_cast<uint64_t>(*bytes);
    }
    if (const auto name = text(parent, path, "priority", false)) {
      terms.priority = priority_from_name(*name);
      if (!terms.priority) error(path + "/priority", "unknown priority", "critical, interactive, normal or batch");
    }
    read_linger(parent, path, terms);
    return terms;
  }

  // By class of messages, or in numbers, which then count.
  void read_linger(const Json& parent, const std::string& path, contract::Declaration& terms) {
    struct Class {
      std::string_view name;
      int64_t linger_ms;
      uint32_t count;
    };
    constexpr Class classes[] = {{"model", 100, 10}, {"database", 50, 50}, {"file", 200, 20}, {"network", 150, 15}};
    if (const auto name = text(parent, path, "class", false)) {
      const auto known = std::find_if(std::begin(classes), std::end(classes), [&](auto& c) { return c.name == *name; });
      if (known == std::end(classes)) {
        error(path + "/class", "unknown class of messages", "model, database, file or network");
      } else {
        terms.linger_ms = known->linger_ms;
        terms.linger_count = known->count;
      }
    }
    if (const auto ms = number(parent, path, "linger_ms", 0, limits::linger_ms_max)) terms.linger_ms = *ms;
    if (const auto count = number(parent, path, "linger_count", 1, limits::batch_envelopes_max)) {
      terms.linger_count = static_cast<uint32_t>(*count);
    }
  }

  static std::string absolute(const std::string& path, const std::string& directory) {
    return path.starts_with('/') ? path : directory + "/" + path;
  }

 private:
  ConfigResult& result_;
};

}  // namespace mesh::proxy
