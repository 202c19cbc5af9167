#include "tools/meshctl/cache_commands.h"

#include <algorithm>
#include <iostream>
#include <set>

#include "sidecar/proxy/purge_spec.h"
#include "tools/meshctl/cache.h"
#include "tools/meshctl/console.h"
#include "tools/meshctl/explain.h"

namespace mesh::ctl {
namespace {

// A sidecar waits 5 s for its peers, and gives its answer within 6.
constexpr int kPurgeWait_s = 7;

// The answers of all sidecars, as text or as JSON; the exit code.
template <class Text>
int show_all(const Options& options, std::string_view line, Text text, bool* has_found = nullptr) {
  const auto [targets, code] = load(options);
  if (code != kExitOk) return code;
  const Answers answers = ask_all(targets, line);
  Json sidecars = Json::array();
  for (const auto& [target, answer] : answers.given) {
    if (has_found != nullptr) *has_found = *has_found || at(answer, "found").is_object();
    sidecars.push_back(answer);
    if (!options.json) std::cout << text(answer);
  }
  if (options.json) print({{"sidecars", sidecars}});
  if (answers.given.empty()) return none_answers(targets);
  tell_missing(answers);
  return answers.missing.empty() ? kExitOk : kExitUnreachable;
}

Json order_of(const CacheOptions& cache) {
  Json order = {{"action", "purge"}};
  if (cache.all) order["all"] = true;
  for (const auto& [name, value] :
       {std::pair{"service", &cache.service}, {"method", &cache.method}, {"tag", &cache.tag}, {"key", &cache.key}}) {
    if (!value->empty()) order[name] = *value;
  }
  return order;
}

// Keeps nothing of it, as it does not know the service.
bool is_unconcerned(const Json& answer) { return text_at(at(answer, "mesh"), "rule") == "unknown_service"; }

}  // namespace

int run_cache_stats(const Options& options) {
  return show_all(options, "cache stats", [&](const Json& one) { return cache_stats_text(one, paint_for(options)); });
}

int run_cache_keys(const Options& options, const CacheOptions& cache) {
  const std::string of = cache.service.empty() ? "" : " " + cache.service;
  return show_all(options, "cache keys " + std::to_string(cache.limit) + of, cache_keys_text);
}

int run_cache_get(const Options& options, const CacheOptions& cache) {
  if (!proxy::read_key(cache.key)) {
    tell("'" + cache.key + "' is no key", "32 hexadecimal digits, as meshctl cache keys shows them");
    return kExitUsage;
  }
  bool has_found = false;
  const int code = show_all(
      options, "cache get " + cache.key + (cache.with_body ? " body" : ""),
      [&](const Json& one) { return cache_get_text(one, paint_for(options)); }, &has_found);
  return code == kExitOk && !has_found ? kExitFailed : code;
}

// Each sidecar is asked: what one keeps that nobody else can reach goes as well.
int run_cache_purge(const Options& options, const CacheOptions& cache) {
  const std::string order = order_of(cache).dump(-1, ' ', false, Json::error_handler_t::replace);
  if (const auto what = proxy::read_purge_spec(order); !what) {
    tell(what.error().text, "see meshctl cache purge --help");
    return kExitUsage;
  }
  const auto [targets, code] = load(options);
  if (code != kExitOk) return code;
  const Answers answers = ask_all(targets, "cache purge " + order, kPurgeWait_s);
  if (answers.given.empty()) return tell_missing(answers), none_answers(targets);
  Json sidecars = Json::array();
  std::set<std::string> not_confirmed;
  bool is_done = true;
  bool is_known = false;
  for (const auto& [target, answer] : answers.given) {
    sidecars.push_back(answer);
    if (is_unconcerned(answer)) continue;
    is_known = true;
    is_done = is_done && text_at(answer, "code") == "OK";
    for (const Json& name : list_at(at(answer, "mesh"), "not_confirmed")) {
      if (name.is_string()) not_confirmed.insert(name.get<std::string>());
    }
    if (!options.json) std::cout << cache_purge_text(answer, paint_for(options));
  }
  is_done = is_done && is_known;
  if (options.json) print({{"confirmed", is_done}, {"not_confirmed", not_confirmed}, {"sidecars", sidecars}});
  if (!is_known) tell("no sidecar here knows the service '" + cache.service + "'", "see meshctl status");
  tell_missing(answers);
  if (!is_done) return kExitFailed;
  return answers.missing.empty() ? kExitOk : kExitUnreachable;
}

int run_cache_why(const Options& options, const CacheOptions& cache) {
  Options narrowed = options;
  std::string line = "explain newest 50";
  if (!cache.call.empty()) {
    const auto call = parse_call(cache.call);
    if (!call) {
      tell("'" + cache.call + "' names no call", "a number, or HOST/SIDECAR-NUMBER as in an error's mesh.call");
      return kExitUsage;
    }
    if (!call->sidecar.empty()) narrowed.sidecar = call->sidecar;
    line = "explain " + std::to_string(call->number);
  }
  const auto [targets, code] = load(narrowed);
  if (code != kExitOk) return code;
  const Answers answers = ask_all(targets, line);
  tell_missing(answers);
  if (answers.given.empty()) return none_answers(targets);
  std::vector<Json> records;
  for (const auto& [target, answer] : answers.given) {
    for (const Json& record : list_at(answer, "records")) {
      // The newest of an agent's, not what was asked for on its behalf.
      if (!cache.call.empty() || text_at(record, "cache_why") != "fetch") records.push_back(record);
    }
  }
  std::stable_sort(records.begin(), records.end(),
                   [](const Json& a, const Json& b) { return number_at(a, "age_ms") < number_at(b, "age_ms"); });
  if (cache.call.empty() && records.size() > 1) records.resize(1);
  if (options.json) {
    print({{"records", records}});
  } else {
    for (const Json& record : records) std::cout << cache_why_text(record, paint_for(options));
  }
  if (!records.empty()) return kExitOk;
  if (!answers.missing.empty()) return kExitUnreachable;
  tell("no such call is remembered", "see meshctl cache why --help");
  return kExitFailed;
}

}  // namespace mesh::ctl
