#include "tools/meshctl/probe.h"

#include <algorithm>
#include <chrono>
#include <deque>
#include <fstream>
#include <map>
#include <thread>
#include <utility>

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

// `here`: the sidecars that answered on this computer.
Result<Route> find_route(const std::vector<const Target*>& here, const std::string& whom) {
  bool has_mesh_socket = false;
  for (const Target* target : here) {
    if (!target->config.mesh_socket) continue;
    has_mesh_socket = true;
    for (const proxy::PeerConfig& peer : target->config.peers) {
      if (whom == peer.host || whom == peer.host + "/" + peer.sidecar) {
        return Route{target, &peer, proxy::echo_service(peer.host, peer.sidecar)};
      }
    }
  }
  for (const Target* target : here) {
    if (!target->config.mesh_socket) continue;
    const proxy::Services services(target->config);
    const auto found = services.find(whom);
    if (found && !services[*found].instances.empty()) return Route{target, nullptr, whom};
  }
  if (!has_mesh_socket) {
    return complain("no sidecar on this computer has a mesh socket",
                    "add \"mesh\": \"ipc://mesh.sock\" to its entry in /sidecars: probes go in there");
  }
  return complain("'" + printable(whom) + "' is neither a host with a sidecar nor a service known here",
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
  Records(const Route& route, uint64_t request_bytes) : route_(route), request_bytes_(request_bytes) {
    for_each_newest(1, [](const Json&) {});
  }

  // Takes in what is new after `calls` of the probe.
  void collect(uint64_t calls) {
    // As many calls of others in between are allowed for. Not more: the sidecar has better things to do.
    for_each_newest(std::min<uint64_t>(1000, 2 * calls + 50), [this](const Json& record) {
      if (text_at(record, "service") != route_.service) return;
      if (count_at(at(record, "bytes"), "request") != request_bytes_) return;
      total_us_.record(count_at(record, "total_us"));
      for (const Json& stage : list_at(record, "stages")) {
        const auto key = std::pair(text_at(stage, "stage"), text_at(stage, "host"));
        if (!stages_.contains(key)) order_.push_back(key);
        stages_[key].record(count_at(stage, "us"));
      }
      if (at(record, "clock").is_object()) clock_ = at(record, "clock");
    });
  }
  Json stages() const {
    Json list = Json::array();
    for (const auto& key : order_) {
      list.push_back({{"stage", key.first}, {"host", key.second}, {"p50_us", stages_.at(key).quantile(0.5)}});
    }
    return list;
  }
  const Json& clock() const { return clock_; }
  const Histogram& total_us() const { return total_us_; }

 private:
  template <class Visit>
  void for_each_newest(uint64_t count, Visit visit) {
    const auto answer = ask(*route_.from, "explain newest " + std::to_string(count));
    if (!answer) return;
    uint64_t newest = last_;
    for (const Json& record : list_at(*answer, "records")) {
      const uint64_t number = count_at(record, "number");
      newest = std::max(newest, number);
      if (number > last_) visit(record);
    }
    last_ = newest;
  }

  const Route& route_;
  uint64_t request_bytes_;
  uint64_t last_ = 0;
  std::vector<std::pair<std::string, std::string>> order_;
  std::map<std::pair<std::string, std::string>, Histogram> stages_;
  Histogram total_us_;
  Json clock_;
};

// One size: round trips on both paths in turn.
class Window {
 public:
  Window(const Route& route, ProbePath& mesh, ProbePath* direct, std::string body)
      : route_(route), mesh_(mesh), direct_(direct), body_(std::move(body)) {}

  // `progress` as in probe(), of this window alone.
  Result<void> measure(const ProbeOptions& options, const std::function<bool(double)>& progress) {
    uint64_t collected = 0;
    for (uint64_t i = 0; i < kWarmUp + options.count; ++i) {
      if (i == kWarmUp) records_.emplace(route_, body_.size());
      const bool counts = i >= kWarmUp;
      // Who goes first takes turns: the second finds caches and processor warm.
      for (const bool second : {false, true}) {
        const bool is_mesh = second == (i % 2 == 1);
        ProbePath* path = is_mesh ? &mesh_ : direct_;
        if (path == nullptr) continue;
        const auto us = path->round_trip(body_);
        if (!us && !progress(share(i, options))) return {};
        if (!us) return Unexpected(us.error());
        if (counts) (is_mesh ? through_ : straight_).record(static_cast<uint64_t>(*us));
      }
      if (records_ && ++collected >= kCollectEvery) records_->collect(std::exchange(collected, 0));
      if (!progress(share(i, options))) break;
      if (options.interval_ms > 0) std::this_thread::sleep_for(std::chrono::milliseconds(options.interval_ms));
    }
    if (records_) records_->collect(collected);
    return {};
  }

  Json result() const {
    Json entry = {
        {"bytes", body_.size()}, {"mesh", percentiles(through_)}, {"direct", nullptr}, {"added_p50_us", nullptr}};
    if (direct_ != nullptr) {
      entry["direct"] = percentiles(straight_);
      entry["added_p50_us"] =
          static_cast<int64_t>(through_.quantile(0.5)) - static_cast<int64_t>(straight_.quantile(0.5));
    }
    entry["records"] = records_ ? records_->total_us().count() : 0;
    entry["recorded_p50_us"] = records_ ? records_->total_us().quantile(0.5) : 0;
    entry["stages"] = records_ ? records_->stages() : Json::array();
    std::vector<Series> series;
    add_series(series, "");
    entry["plot"] = spread_text(series);
    return entry;
  }
  void add_series(std::vector<Series>& series, const std::string& prefix) const {
    series.push_back({prefix + "mesh", &through_});
    if (direct_ != nullptr) series.push_back({prefix + "libzmq, direct", &straight_});
  }
  uint64_t bytes() const { return body_.size(); }
  Json clock() const { return records_ ? records_->clock() : Json(); }

 private:
  static constexpr uint64_t kCollectEvery = 100;
  static double share(uint64_t done, const ProbeOptions& options) {
    return static_cast<double>(done) / static_cast<double>(kWarmUp + options.count);
  }

  const Route& route_;
  ProbePath& mesh_;
  ProbePath* direct_;
  std::string body_;
  Histogram through_;
  Histogram straight_;
  std::optional<Records> records_;
};

Result<Route> route_for(const Targets& targets, const ProbeOptions& options) {
  const Answers answers = ask_all(targets, "health");
  if (answers.given.empty()) {
    Error error = rule_broken(Code::kNotSent, "unreachable", "no sidecar of the configuration answers here");
    error.hint = "see meshctl check";
    return Unexpected(std::move(error));
  }
  std::vector<const Target*> here;
  for (const auto& [target, health] : answers.given) here.push_back(target);
  auto route = find_route(here, options.whom);
  if (route && route->peer == nullptr && !options.body) {
    return complain("a service needs a body that it understands",
                    "e.g. --body '{\"action\":\"health_check\"}'; a HOST is probed without any agent");
  }
  if (route && route->peer != nullptr && (options.body || options.direct)) {
    return complain("--body and --direct are for a service, and '" + options.whom + "' is a host",
                    "a host's own echo is asked, and compared with libzmq at its link port");
  }
  return route;
}

}  // namespace

Result<Json> probe(const Targets& targets, const ProbeOptions& options, const std::function<bool(double)>& progress) {
  const auto route = route_for(targets, options);
  if (!route) return Unexpected(route.error());
  zmq::context_t context(1);
  const auto mesh = through_mesh(context, *route->from->config.mesh_socket, route->service);
  if (!mesh) return Unexpected(mesh.error());
  std::unique_ptr<ProbePath> direct;
  if (route->peer != nullptr || options.direct) {
    auto made = route->peer != nullptr ? straight_to_sidecar(context, *route->peer)
                                       : straight_to_agent(context, *options.direct);
    if (!made) return Unexpected(made.error());
    direct = std::move(*made);
  }
  std::vector<std::string> bodies;
  if (options.body) {
    bodies.push_back(*options.body);
  } else {
    for (const uint64_t size : options.sizes) bodies.push_back(random_body(size));
  }
  std::deque<Window> windows;  // whose addresses stay: the series point into them
  bool goes_on = true;
  for (const std::string& body : bodies) {
    const auto before = static_cast<double>(windows.size());
    Window& window = windows.emplace_back(*route, **mesh, direct.get(), body);
    const auto measured = window.measure(options, [&](double done) {
      return goes_on = goes_on && progress((before + done) / static_cast<double>(bodies.size()));
    });
    if (!measured) return Unexpected(measured.error());
    if (!goes_on) break;
  }
  Json sizes = Json::array();
  Json clock;
  std::vector<Series> series;
  for (const Window& window : windows) {
    sizes.push_back(window.result());
    if (Json seen = window.clock(); !seen.is_null()) clock = std::move(seen);
    window.add_series(series, bytes_text(static_cast<double>(window.bytes())) + " ");
  }
  if (options.svg) {
    std::ofstream file(*options.svg);
    file << spread_svg("Round trips from " + route->from->name() + " to " + options.whom, series);
    if (!file.flush()) return complain("cannot write " + *options.svg, "choose another file for --svg");
  }
  return Json{{"target", options.whom}, {"from", route->from->name()}, {"sizes", sizes}, {"clock", clock}};
}

}  // namespace mesh::ctl
