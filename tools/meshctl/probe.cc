#include "tools/meshctl/probe.h"

#include <algorithm>
#include <chrono>
#include <fstream>
#include <map>
#include <thread>

#include "common/base/prng.h"
#include "common/telemetry/histogram.h"
#include "sidecar/proxy/services.h"
#include "tools/meshctl/paths.h"
#include "tools/meshctl/plot.h"

namespace mesh::ctl {
namespace {

using telemetry::Histogram;

constexpr uint64_t kWarmUp = 10;

Unexpected complain(std::string text, std::string hint) {
  Error error = rule_broken(Code::kInvalid, "probe", std::move(text));
  error.hint = std::move(hint);
  return Unexpected(std::move(error));
}

// Where a probe begins and ends.
struct Route {
  const Target* from = nullptr;
  const proxy::PeerConfig* peer = nullptr;  // null for a service
  std::string service;
};

Result<Route> find_route(const Targets& targets, const std::string& whom) {
  bool has_mesh_socket = false;
  for (const Target& target : targets.sidecars) {
    if (!is_here(target) || !target.config.mesh_socket) continue;
    has_mesh_socket = true;
    for (const proxy::PeerConfig& peer : target.config.peers) {
      if (whom == peer.host || whom == peer.host + "/" + peer.sidecar) {
        return Route{&target, &peer, proxy::echo_service(peer.host, peer.sidecar)};
      }
    }
  }
  for (const Target& target : targets.sidecars) {
    if (!is_here(target) || !target.config.mesh_socket) continue;
    const proxy::Services services(target.config);
    const auto found = services.find(whom);
    if (found && !services[*found].instances.empty()) return Route{&target, nullptr, whom};
  }
  if (!has_mesh_socket) {
    return complain("no sidecar on this computer has a mesh socket",
                    "add \"mesh\": \"ipc://mesh.sock\" to its entry in /sidecars: probes go in there");
  }
  return complain("'" + whom + "' is neither a host with a sidecar nor a service known here",
                  "meshctl status lists the peers; services stand in the configuration");
}

std::string random_body(uint64_t bytes) {
  Prng prng(bytes);
  std::string body(bytes, '\0');
  for (char& c : body) c = static_cast<char>('a' + prng.below(26));
  return body;
}

Json percentiles(const Histogram& latency_us) {
  return {{"count", latency_us.count()},
          {"p50_us", latency_us.quantile(0.5)},
          {"p90_us", latency_us.quantile(0.9)},
          {"p99_us", latency_us.quantile(0.99)},
          {"max_us", latency_us.max()}};
}

// The records of the probe's own calls, told apart by service, size and number.
class Records {
 public:
  Records(const Route& route, uint64_t request_bytes) : route_(route), request_bytes_(request_bytes) { collect(false); }

  // Takes in what is new; call it before 1000 further calls are made.
  void collect(bool keep = true) {
    const auto answer = ask(route_.from->config.admin_path, "explain newest 1000");
    if (!answer) return;
    uint64_t newest = last_;
    for (const Json& record : (*answer)["records"]) {
      const uint64_t number = record["number"];
      newest = std::max(newest, number);
      if (number <= last_ || !keep) continue;
      if (record["service"] != route_.service || record["bytes"]["request"] != request_bytes_) continue;
      for (const Json& stage : record["stages"]) {
        const auto key = std::pair(stage["stage"].get<std::string>(), stage["host"].get<std::string>());
        if (!stages_.contains(key)) order_.push_back(key);
        stages_[key].record(stage["us"].get<uint64_t>());
      }
      if (!record["clock"].is_null()) clock_ = record["clock"];
    }
    last_ = newest;
  }
  Json stages() const {
    Json list = Json::array();
    for (const auto& key : order_) {
      list.push_back({{"stage", key.first}, {"host", key.second}, {"p50_us", stages_.at(key).quantile(0.5)}});
    }
    return list;
  }
  const Json& clock() const { return clock_; }

 private:
  const Route& route_;
  uint64_t request_bytes_;
  uint64_t last_ = 0;
  std::vector<std::pair<std::string, std::string>> order_;
  std::map<std::pair<std::string, std::string>, Histogram> stages_;
  Json clock_;
};

}  // namespace

Result<Json> probe(const Targets& targets, const ProbeOptions& options, const std::function<void(double)>& progress) {
  const auto route = find_route(targets, options.whom);
  if (!route) return Unexpected(route.error());
  if (route->peer == nullptr && !options.body) {
    return complain("a service needs a body that it understands",
                    "e.g. --body '{\"action\":\"health_check\"}'; a HOST is probed without any agent");
  }
  zmq::context_t context(1);
  const auto mesh = through_mesh(context, *route->from->config.mesh_socket, route->service);
  std::unique_ptr<ProbePath> direct;
  if (route->peer != nullptr) {
    direct = straight_to_sidecar(context, *route->peer);
  } else if (options.direct) {
    direct = straight_to_agent(context, *options.direct);
  }
  std::vector<std::string> bodies;
  if (options.body) {
    bodies.push_back(*options.body);
  } else {
    for (const uint64_t size : options.sizes) bodies.push_back(random_body(size));
  }
  Json sizes = Json::array();
  Json clock;
  std::vector<std::unique_ptr<Histogram>> kept;
  std::vector<Series> series;
  for (size_t b = 0; b < bodies.size(); ++b) {
    const std::string& body = bodies[b];
    kept.push_back(std::make_unique<Histogram>());
    kept.push_back(std::make_unique<Histogram>());
    Histogram& through = *kept[kept.size() - 2];
    Histogram& straight = *kept.back();
    std::optional<Records> records;
    for (uint64_t i = 0; i < kWarmUp + options.count; ++i) {
      if (i == kWarmUp) records.emplace(*route, body.size());
      const auto went = mesh->round_trip(body);
      if (!went) return Unexpected(went.error());
      if (i >= kWarmUp) through.record(static_cast<uint64_t>(*went));
      if (direct) {
        const auto straight_us = direct->round_trip(body);
        if (!straight_us) return Unexpected(straight_us.error());
        if (i >= kWarmUp) straight.record(static_cast<uint64_t>(*straight_us));
      }
      if (records && i % 250 == 249) records->collect();
      if (options.interval_ms > 0) std::this_thread::sleep_for(std::chrono::milliseconds(options.interval_ms));
      progress((static_cast<double>(b) + static_cast<double>(i) / static_cast<double>(kWarmUp + options.count)) /
               static_cast<double>(bodies.size()));
    }
    records->collect();
    Json entry = {
        {"bytes", body.size()}, {"mesh", percentiles(through)}, {"direct", nullptr}, {"added_p50_us", nullptr}};
    if (direct) {
      entry["direct"] = percentiles(straight);
      entry["added_p50_us"] =
          static_cast<int64_t>(through.quantile(0.5)) - static_cast<int64_t>(straight.quantile(0.5));
    }
    entry["stages"] = records->stages();
    sizes.push_back(std::move(entry));
    if (!records->clock().is_null()) clock = records->clock();
    series.push_back({bytes_text(static_cast<double>(body.size())) + " mesh", &through});
    if (direct) series.push_back({bytes_text(static_cast<double>(body.size())) + " libzmq", &straight});
  }
  if (options.svg) {
    std::ofstream file(*options.svg);
    file << spread_svg("Round trips from " + route->from->name() + " to " + options.whom, series);
    if (!file) return complain("cannot write " + *options.svg, "choose another file for --svg");
  }
  return Json{{"target", options.whom},
              {"from", route->from->name()},
              {"sizes", sizes},
              {"clock", clock},
              {"plot", spread_text(series)}};
}

std::string probe_text(const Json& result, const Json& before, const Paint& paint) {
  std::string text =
      paint(Tone::kStrong, result["from"].get<std::string>() + " → " + result["target"].get<std::string>()) + "\n";
  std::vector<std::vector<std::string>> rows = {{"bytes", "path", "p50", "p90", "p99", "max", "added p50"}};
  for (const Json& size : result["sizes"]) {
    for (const char* path : {"mesh", "direct"}) {
      const Json& figures = size[path];
      if (figures.is_null()) continue;
      const bool is_mesh = path == std::string_view("mesh");
      rows.push_back({size["bytes"].dump(), is_mesh ? "mesh" : "libzmq, direct", duration_text(figures["p50_us"]),
                      duration_text(figures["p90_us"]), duration_text(figures["p99_us"]),
                      duration_text(figures["max_us"]),
                      is_mesh && !size["added_p50_us"].is_null() ? duration_text(size["added_p50_us"]) : ""});
    }
  }
  text += table(rows, {0, 2, 3, 4, 5, 6}) + "\nmedian of each stage\n";
  rows.clear();
  size_t index = 0;
  for (const Json& size : result["sizes"]) {
    for (const Json& stage : size["stages"]) {
      const std::string name = stage["stage"];
      std::string change;
      if (before.is_object() && name.starts_with("link_")) {
        for (const Json& old : before["sizes"][index]["stages"]) {
          if (old["stage"] != stage["stage"]) continue;
          const double moved = stage["p50_us"].get<double>() - old["p50_us"].get<double>();
          change = (moved < 0 ? "−" : "+") + duration_text(std::abs(moved)) + " since before";
        }
      }
      rows.push_back({size["bytes"].dump(), name, stage["host"], duration_text(stage["p50_us"]), change});
    }
    ++index;
  }
  text += table(rows, {0, 3});
  if (const Json& clock = result["clock"]; clock.is_object()) {
    text += "clock there: " + clock["offset_us"].dump() + " ± " + clock["bound_us"].dump() +
            " µs ahead; link_out and link_back are known as well as that\n";
  }
  return text + "\n" + result["plot"].get<std::string>();
}

}  // namespace mesh::ctl
