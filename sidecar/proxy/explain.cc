#include "sidecar/proxy/explain.h"

#include <algorithm>
#include <charconv>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>

namespace mesh::proxy {
namespace {

using Json = nlohmann::ordered_json;
using telemetry::Decision;
using telemetry::Stage;

std::optional<uint64_t> number_in(std::string_view text) {
  uint64_t number = 0;
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (status != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

class Explainer {
 public:
  Explainer(Engine& engine, const SidecarConfig& config, Instant now)
      : engine_(engine), config_(config), own_(config.host + "/" + config.sidecar), now_(now) {}

  Json record(const Decision& decision) const {
    const Service* service = decision.service == Decision::kNoService ? nullptr : &engine_.services()[decision.service];
    Json json = {{"call", own_ + "-" + std::to_string(decision.trace.number)},
                 {"number", decision.trace.number},
                 {"age_ms", to_us(now_ - decision.ended) / 1000},
                 {"caller", {{"port", port_name(decision.port)}, {"client", decision.client}}},
                 {"service", service != nullptr ? service->name : ""},
                 {"method", decision.method.view()},
                 {"priority", to_string(decision.priority)},
                 {"lane", decision.lane == wire::Lane::kBulk ? "bulk" : "interactive"}};
    json["candidates"] = Json::array();
    std::string chosen;
    if (service != nullptr) {
      for (size_t i = 0; i < decision.trace.choices.count; ++i) {
        const telemetry::Choice& choice = decision.trace.choices.seen[i];
        json["candidates"].push_back({{"instance", instance_name(service->instances[choice.instance])},
                                      {"state", to_string(choice.state)},
                                      {"in_flight", choice.in_flight},
                                      {"own_host", choice.own_host}});
        if (const auto* forecasts = engine_.outbound().forecasts().find(decision.trace.choices.forecasts))
          json["candidates"].back()["forecast"] = forecast((*forecasts)[i]);
      }
      if (decision.trace.attempts > 0)
        chosen = instance_name(service->instances[decision.trace.choices.chosen_instance]);
    }
    json["cache"] = cache(decision.trace.cache);
    json["cache_why"] = why(decision, service);
    json["cache_then"] = to_string(decision.trace.cache.keeping);
    json["chosen"] = chosen;
    json["why"] = decision.trace.attempts > 0 ? to_string(decision.trace.choices.why) : "";
    json["attempts"] = decision.trace.attempts;
    json["earlier"] = Json::array();
    for (size_t i = 0; i + 1 < decision.trace.attempts; ++i) {
      const telemetry::Attempt& attempt = decision.trace.earlier[i];
      json["earlier"].push_back({{"instance", instance_name(service->instances[attempt.instance])},
                                 {"code", to_string(attempt.code)},
                                 {"us", attempt.took_us}});
    }
    json["bytes"] = {{"request", decision.request_bytes}, {"reply", decision.reply_bytes}};
    json["request_batch"] = batch(decision.trace.request_batch);
    json["reply_batch"] = batch(decision.reply_batch);
    const telemetry::Stages spent = stages_of(decision);
    json["budget_ms"] = budgets(decision, spent);
    json["result"] = {{"code", to_string(decision.code)},
                      {"hop", decision.hop.view()},
                      {"stage", decision.stage.view()},
                      {"rule", decision.rule.view()}};
    json["total_us"] = to_us(decision.total());
    json["stages"] = stages(spent, chosen);
    json["clock"] = nullptr;
    if (decision.has_clock) {
      json["clock"] = {{"offset_us", decision.clock_offset_us}, {"bound_us", decision.clock_bound_us}};
    }
    return json;
  }

 private:
  std::string port_name(uint32_t port) const { return port < config_.ports.size() ? config_.ports[port].name : "mesh"; }

  std::string instance_name(const Instance& instance) const {
    if (instance.local) return own_;
    return config_.peers[instance.peer].host + "/" + config_.peers[instance.peer].sidecar;
  }

  Json cache(const telemetry::CacheTrace& trace) const {
    if (trace.verdict == telemetry::CacheVerdict::kNone) return nullptr;
    Json json = {{"verdict", to_string(trace.verdict)}, {"key", wire::key_text(trace.key_high, trace.key_low)}};
    if (trace.fetch != 0) json["fetched_by"] = own_ + "-" + std::to_string(trace.fetch);
    if (is_hit(trace.verdict) || trace.tier != 0) {  // here, or beside its agent
      json["tier"] = to_string(static_cast<contract::Tier>(trace.tier));
      json["age_ms"] = trace.age_ms;
    }
    return json;
  }

  // How soon it would have answered, as it was known then.
  static Json forecast(const telemetry::Forecast& forecast) {
    constexpr std::string_view kPressures[] = {"green", "amber", "red"};
    constexpr std::string_view kBands[] = {"cool", "warm", "hot", "critical"};
    const uint64_t total_us = uint64_t{forecast.wait_us} + forecast.load_us + forecast.way_us + forecast.serve_us;
    Json json = {{"is_known", forecast.is_known}, {"model", telemetry::to_string(forecast.place)},
                 {"wait_us", forecast.wait_us},   {"load_us", forecast.load_us},
                 {"way_us", forecast.way_us},     {"serve_us", forecast.serve_us},
                 {"total_us", total_us},          {"never_fits", forecast.never_fits}};
    if (!forecast.is_known) return json;
    json["pressure"] = kPressures[std::min<size_t>(forecast.pressure, std::size(kPressures) - 1)];
    json["band"] = kBands[std::min<size_t>(forecast.band, std::size(kBands) - 1)];
    json["age_ms"] = forecast.age_ms;
    return json;
  }

  // Why it was not answered with what is kept; empty if it was.
  std::string_view why(const Decision& decision, const Service* service) const {
    const telemetry::CacheTrace& trace = decision.trace.cache;
    if (is_hit(trace.verdict)) return "";
    if (trace.verdict == telemetry::CacheVerdict::kUntagged) return "untagged";
    if (trace.miss != telemetry::CacheMiss::kNone) return to_string(trace.miss);
    if (service == nullptr) return "not_looked_up";
    const contract::Terms terms = config_.contracts.lookup(service->name, decision.method.view());
    if (terms.cache == nullptr || terms.cache->ttl_ms == 0) return "not_declared";
    return decision.client == 0 ? "fetch" : "not_looked_up";
  }

  static Json batch(const wire::BatchShape& shape) {
    if (shape.envelopes == 0) return nullptr;
    return {{"envelopes", shape.envelopes},
            {"plain_bytes", shape.plain_bytes},
            {"wire_bytes", shape.wire_bytes},
            {"codec", shape.is_zstd ? "zstd" : "none"}};
  }

  // What was left at each hop: the caller's when the request came, what travelled, and what the callee had left of
  // that.
  static Json budgets(const Decision& decision, const telemetry::Stages& spent) {
    const auto ms = [](int64_t us) -> Json { return static_cast<double>(us) / 1000; };
    Json json = {{"caller", ms(decision.trace.budget_us)}, {"sent", nullptr}, {"callee", nullptr}, {"agent", nullptr}};
    const bool remote = decision.trace.sent_budget_us > 0;
    int64_t left = remote ? decision.trace.sent_budget_us : decision.trace.budget_us;
    if (remote) json["sent"] = ms(left);
    if (spent.came_to(Stage::kCalleeQueue)) {
      left -= static_cast<int64_t>(spent[Stage::kCalleeDecompress]);
      json["callee"] = ms(left);
      if (spent.came_to(Stage::kAgent)) json["agent"] = ms(left - static_cast<int64_t>(spent[Stage::kCalleeQueue]));
    }
    return json;
  }

  Json stages(const telemetry::Stages& spent, const std::string& callee) const {
    Json list = Json::array();
    for (size_t i = 0; i < telemetry::kStageCount; ++i) {
      const auto stage = static_cast<Stage>(i);
      if (!spent.came_to(stage)) continue;
      std::string host = own_;
      if (stage == Stage::kCalleeDecompress || stage == Stage::kCalleeQueue || stage == Stage::kAgent ||
          stage == Stage::kCalleeCompress) {
        host = callee;
      } else if (stage == Stage::kLinkOut || stage == Stage::kLinkBack || stage == Stage::kUnanswered) {
        host = "";
      }
      list.push_back({{"stage", to_string(stage)}, {"host", host}, {"us", spent[stage]}});
    }
    return list;
  }

  Engine& engine_;
  const SidecarConfig& config_;
  std::string own_;
  Instant now_;
};

}  // namespace

Json explain(std::string_view which, Engine& engine, const SidecarConfig& config, Instant now) {
  constexpr size_t kCountDefault = 20;
  const telemetry::DecisionLog& log = engine.outbound().recorder().log();
  std::vector<const Decision*> found;
  if (const auto number = number_in(which)) {
    if (const Decision* decision = log.find(*number)) found.push_back(decision);
  } else {
    const size_t space = std::min(which.find(' '), which.size());
    const std::string_view kind = which.substr(0, space);
    size_t count = kCountDefault;
    if (space < which.size()) {
      const auto given = number_in(which.substr(space + 1));
      if (!given) return nullptr;
      count = static_cast<size_t>(*given);
    }
    if (kind == "newest") {
      found = log.newest(count);
    } else if (kind == "slowest") {
      found = log.slowest(count);
    } else if (kind == "failed") {
      found = log.failed(count);
    } else {
      return nullptr;
    }
  }
  const Explainer explainer(engine, config, now);
  Json records = Json::array();
  for (const Decision* decision : found) records.push_back(explainer.record(*decision));
  return {{"host", config.host}, {"sidecar", config.sidecar}, {"records", records}};
}

}  // namespace mesh::proxy
