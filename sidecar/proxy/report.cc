#include "sidecar/proxy/report.h"

#include <nlohmann/json.hpp>

#include "sidecar/proxy/cache_report.h"
#include "sidecar/proxy/explain.h"

namespace mesh::proxy {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kVersion = MESH_VERSION;

Json health(Engine& engine, const SidecarConfig& config, const Surroundings& around) {
  Json agents = Json::array();
  bool all_connected = true;
  for (AgentIndex i = 0; i < config.agents.size(); ++i) {
    const Inbound::AgentView view = engine.inbound().view(i);
    all_connected = all_connected && view.connected;
    agents.push_back({{"agent", config.agents[i].name},
                      {"service", config.agents[i].service},
                      {"connected", view.connected},
                      {"working", view.working},
                      {"queued", view.queued}});
  }
  Json peers = Json::array();
  for (PeerIndex i = 0; i < config.peers.size(); ++i) {
    const Outbound::PeerView view = engine.outbound().view(i);
    peers.push_back({{"host", config.peers[i].host},
                     {"sidecar", config.peers[i].sidecar},
                     {"connected", view.connected},
                     {"draining", view.draining},
                     {"in_flight", view.in_flight}});
  }
  Json models = Json::array();
  for (const ModelLeases::View& model : engine.inbound().models().views()) {
    models.push_back(
        {{"model", model.name}, {"lease", to_string(model.state)}, {"users", model.users}, {"waiting", model.waiting}});
  }
  Json standings = Json::array();
  const auto standing_of = [](const wire::Standing& said, std::string_view host, std::string_view sidecar,
                              int64_t age_ms) -> Json {
    return {{"service", said.service},
            {"model", said.model},
            {"host", host},
            {"sidecar", sidecar},
            {"place", telemetry::to_string(said.place)},
            {"usable_in_ms", said.usable_in_ms},
            {"never_fits", said.never_fits},
            {"wait_us", said.wait_us},
            {"serve_us", said.serve_us},
            {"age_ms", age_ms}};
  };
  for (StandingIndex i = 0; i < engine.inbound().standings().size(); ++i) {
    const wire::Standing own = engine.inbound().standing(i, around.now);
    standings.push_back(standing_of(own, config.host, config.sidecar, own.age_ms));
  }
  engine.outbound().standings().for_each([&](ServiceIndex service, uint32_t instance, std::string_view model,
                                             const wire::Standing& said, Instant heard_at) {
    const Instance& at = engine.services()[service].instances[instance];
    wire::Standing named = said;
    named.service = engine.services()[service].name;
    named.model = model;
    standings.push_back(standing_of(named, config.peers[at.peer].host, config.peers[at.peer].sidecar,
                                    said.age_ms + to_us(around.now - heard_at) / 1000));
  });
  const std::string_view status = around.draining ? "draining" : all_connected ? "ok" : "degraded";
  return {{"status", status},
          {"version", kVersion},
          {"connections_max", around.connections_max},
          {"host", config.host},
          {"sidecar", config.sidecar},
          {"uptime_s", to_us(around.now - around.started) / 1'000'000},
          {"clients", around.clients},
          {"open_calls", engine.outbound().open_calls() + engine.inbound().open_calls()},
          {"agents", agents},
          {"peers", peers},
          {"models", models},
          {"standings", standings}};
}

Json refused(const Counters& counters) {
  Json list = Json::array();
  for (const auto& [key, count] : counters.refused) {
    list.push_back({{"port", key.first}, {"rule", key.second}, {"count", count}});
  }
  return list;
}

Json counters(Engine& engine) {
  Json json = Json::object();
  for (size_t i = 0; i < static_cast<size_t>(Counter::kCount); ++i) {
    json[std::string(to_string(static_cast<Counter>(i)))] = engine.counters().values[i];
  }
  Json results = Json::object();
  for (int i = 0; i < kCodeCount; ++i) {
    results[std::string(to_string(static_cast<Code>(i)))] = engine.counters().results[static_cast<size_t>(i)];
  }
  json["results"] = results;
  json["refused"] = refused(engine.counters());
  json["held_bytes"] = engine.outbound().held_bytes() + engine.inbound().queued_bytes();
  return json;
}

Json calls(Engine& engine, Instant now) {
  Json outbound = Json::array();
  for (const auto& call : engine.outbound().open(now)) {
    outbound.push_back({{"id", call.id},
                        {"service", call.service},
                        {"target", call.target},
                        {"priority", call.priority},
                        {"age_ms", call.age_ms},
                        {"left_ms", call.left_ms}});
  }
  Json inbound = Json::array();
  for (const auto& call : engine.inbound().open(now)) {
    inbound.push_back({{"id", call.id},
                       {"agent", call.agent},
                       {"state", call.state},
                       {"priority", call.priority},
                       {"left_ms", call.left_ms}});
  }
  return {{"outbound", outbound}, {"inbound", inbound}};
}

// Everything counts from the start of the process: whoever wants rates takes differences.
Json stats(Engine& engine, const SidecarConfig& config, const Surroundings& around) {
  Json services = Json::array();
  for (ServiceIndex s = 0; s < engine.services().size(); ++s) {
    const Recorder::Tally& tally = engine.outbound().recorder().tally(s);
    if (tally.latency_us.count() == 0 && engine.services()[s].name.starts_with(kOwnNames)) continue;
    Json results = Json::object();
    for (int i = 0; i < kCodeCount; ++i) {
      if (const uint64_t count = tally.results[static_cast<size_t>(i)]; count > 0) {
        results[std::string(to_string(static_cast<Code>(i)))] = count;
      }
    }
    Json buckets = Json::array();
    tally.latency_us.for_each([&](size_t mark, uint64_t count) { buckets.push_back({mark, count}); });
    uint32_t in_flight = 0;
    for (const Instance& instance : engine.services()[s].instances) in_flight += instance.in_flight;
    services.push_back({{"service", engine.services()[s].name},
                        {"requests", tally.latency_us.count()},
                        {"results", results},
                        {"in_flight", in_flight},
                        {"latency_us",
                         {{"count", tally.latency_us.count()},
                          {"sum", tally.latency_us.sum()},
                          {"max", tally.latency_us.max()},
                          {"p50", tally.latency_us.quantile(0.5)},
                          {"p99", tally.latency_us.quantile(0.99)},
                          {"buckets", buckets}}}});
  }
  const Counters& counted = engine.counters();
  return {{"host", config.host},
          {"sidecar", config.sidecar},
          {"uptime_ms", to_us(around.now - around.started) / 1000},
          {"services", services},
          {"batches",
           {{"sent", counted[Counter::kBatchesSent]},
            {"envelopes_sent", counted[Counter::kEnvelopesSent]},
            {"received", counted[Counter::kBatchesReceived]},
            {"envelopes_received", counted[Counter::kEnvelopesReceived]}}},
          {"refused", refused(counted)}};
}

// One line per object of an array, "key=value" pairs in a row.
void append_text(std::string& text, const Json& json, const std::string& prefix) {
  std::string line;
  for (const auto& [key, value] : json.items()) {
    if (value.is_array()) {
      for (const Json& element : value) append_text(text, element, prefix + key + " ");
    } else if (value.is_object()) {
      append_text(text, value, prefix + key + " ");
    } else {
      line += (line.empty() ? "" : " ") + key + "=" + (value.is_string() ? value.get<std::string>() : value.dump());
    }
  }
  if (!line.empty()) text += prefix + line + "\n";
}

}  // namespace

bool take_json_suffix(std::string_view& line) {
  constexpr std::string_view kSuffix = " json";
  const bool as_json = line.ends_with(kSuffix);
  if (as_json) line.remove_suffix(kSuffix.size());
  return as_json;
}

std::string report_text(const Json& json, bool as_json) {
  if (as_json) return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  std::string text;
  append_text(text, json, "");
  return text.empty() ? "none\n" : text;
}

std::string report(std::string_view line, Engine& engine, const SidecarConfig& config, const Surroundings& around) {
  const bool as_json = take_json_suffix(line);
  Json json;
  if (line == "health") {
    json = health(engine, config, around);
  } else if (line == "counters") {
    json = counters(engine);
  } else if (line == "calls") {
    json = calls(engine, around.now);
  } else if (line == "stats") {
    json = stats(engine, config, around);
  } else if (line.starts_with("explain ")) {
    json = explain(line.substr(line.find(' ') + 1), engine, config, around.now);
  } else if (line.starts_with("cache ")) {
    json = cache_report(line.substr(line.find(' ') + 1), engine, config, around.now, around.disk);
  }
  if (json.is_null()) {
    return "error: ask for health, counters, stats, calls, explain and one of newest, slowest, failed, or a call's "
           "number, or cache and one of stats, keys, get, or purge {…}; with \" json\" behind it for JSON\n";
  }
  return report_text(json, as_json);
}

}  // namespace mesh::proxy
