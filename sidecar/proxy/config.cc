#include "sidecar/proxy/config.h"

#include <algorithm>
#include <map>
#include <set>

#include "common/cache/shared_layout.h"
#include "sidecar/proxy/config_contracts.h"
#include "sidecar/proxy/config_reader.h"
#include "sidecar/proxy/services.h"

namespace mesh::proxy {
namespace {

struct SidecarEntry {
  std::optional<Endpoint> listen;
  std::optional<Endpoint> mesh;
  std::string admin;
  std::string category;
};

// The whole host, before it is cut down to one sidecar.
struct Host {
  std::string name;
  bool insecure = false;
  std::string runtime_dir = "/run/mesh";
  std::string data_dir = "/var/lib/mesh";
  std::string arbiter_path;
  std::string shared_dir;
  std::map<std::string, SidecarEntry> sidecars;
  std::vector<std::pair<std::string, AgentConfig>> agents;  // by sidecar
  std::vector<std::pair<std::string, PortConfig>> ports;
  std::vector<PeerConfig> peers;
  contract::Table contracts;
  LimitsConfig limits;
};

class HostReader {
 public:
  HostReader(Reader& in, Host& host) : in_(in), host_(host) {}

  void read(const Json& root) {
    in_.only(root, "",
             {"$schema", "host", "insecure", "runtime_dir", "data_dir", "shared_dir", "arbiter", "sidecars", "agents",
              "ports", "peers", "contracts", "limits"});
    host_.name = in_.text(root, "", "host", true).value_or("");
    if (!host_.name.empty()) judge_name(host_.name, "/host");
    host_.insecure = in_.boolean(root, "", "insecure").value_or(false);
    host_.runtime_dir = in_.text(root, "", "runtime_dir", false).value_or(host_.runtime_dir);
    host_.data_dir = in_.text(root, "", "data_dir", false).value_or(host_.data_dir);
    host_.shared_dir = in_.text(root, "", "shared_dir", false).value_or(host_.runtime_dir);
    if (const auto arbiter = in_.text(root, "", "arbiter", false)) {
      host_.arbiter_path = Reader::absolute(*arbiter, host_.runtime_dir);
      if (host_.arbiter_path.size() > kSocketPathMax)
        in_.error("/arbiter", "is longer than 107 bytes", "choose a shorter runtime_dir");
    }
    read_sidecars(in_.object(root, "", "sidecars"));
    read_agents(in_.object(root, "", "agents"));
    read_ports(in_.object(root, "", "ports"));
    read_peers(in_.object(root, "", "peers"));
    read_contracts(in_, in_.object(root, "", "contracts"), host_.contracts);
    read_limits(in_.object(root, "", "limits"));
    judge_services();
  }

 private:
  void read_sidecars(const Json& sidecars) {
    if (sidecars.empty())
      in_.error("/sidecars", "names no sidecar", "add \"sidecars\": {\"main\": {\"listen\": \"tcp://…:7700\"}}");
    for (const auto& [name, entry] : sidecars.items()) {
      const std::string path = "/sidecars/" + name;
      if (!in_.is_object(entry, path)) continue;
      in_.only(entry, path, {"listen", "mesh", "admin", "category"});
      judge_name(name, path);
      SidecarEntry sidecar;
      sidecar.listen = in_.endpoint_at(entry, path, "listen", host_.runtime_dir, false, true);
      if (sidecar.listen) claim(*sidecar.listen, path + "/listen"), judge_plain(*sidecar.listen, path + "/listen");
      sidecar.mesh = in_.endpoint_at(entry, path, "mesh", host_.runtime_dir, false);
      if (sidecar.mesh) claim(*sidecar.mesh, path + "/mesh"), judge_local(*sidecar.mesh, path + "/mesh");
      sidecar.admin =
          Reader::absolute(in_.text(entry, path, "admin", false).value_or(name + ".admin"), host_.runtime_dir);
      sidecar.category = in_.text(entry, path, "category", false).value_or("all");
      judge_name(sidecar.category, path + "/category");
      if (sidecar.category.find('/') != std::string::npos)
        in_.error(path + "/category", "is to be part of a file's name", "no /");
      if (sidecar.admin.size() > kSocketPathMax)
        in_.error(path + "/admin", "is longer than 107 bytes", "choose a shorter runtime_dir");
      host_.sidecars[name] = std::move(sidecar);
    }
  }

  std::string owner(const Json& entry, const std::string& path) {
    const auto named = in_.text(entry, path, "sidecar", false);
    if (named && !host_.sidecars.contains(*named)) {
      in_.error(path + "/sidecar", "there is no sidecar '" + *named + "'", "name one of /sidecars");
      return {};
    }
    if (named) return *named;
    if (host_.sidecars.size() == 1) return host_.sidecars.begin()->first;
    if (host_.sidecars.size() > 1)
      in_.error(path + "/sidecar", "is missing, and there are several sidecars", "say which one it belongs to");
    return {};
  }

  void read_agents(const Json& agents) {
    for (const auto& [name, entry] : agents.items()) {
      const std::string path = "/agents/" + name;
      if (!in_.is_object(entry, path)) continue;
      in_.only(entry, path, {"service", "endpoint", "socket", "in_flight", "correlate", "port", "sidecar"});
      AgentConfig agent;
      agent.name = name;
      agent.service = in_.text(entry, path, "service", false).value_or(name);
      judge_name(agent.service, path + "/service");
      const auto endpoint = in_.endpoint_at(entry, path, "endpoint", host_.runtime_dir, true);
      if (endpoint) judge_local(*endpoint, path + "/endpoint"), agent.endpoint = *endpoint;
      const std::string socket = in_.text(entry, path, "socket", false).value_or("rep");
      if (socket == "router") {
        agent.socket = AgentSocket::kRouter;
      } else if (socket == "dealer") {
        agent.socket = AgentSocket::kDealer;
      } else if (socket != "rep") {
        in_.error(path + "/socket", "unknown kind of socket '" + socket + "'", "rep, router or dealer");
      }
      agent.correlate = in_.boolean(entry, path, "correlate").value_or(true);
      const bool serial = agent.socket == AgentSocket::kRep || !agent.correlate;
      agent.in_flight = static_cast<uint32_t>(in_.number(entry, path, "in_flight", 1, 256).value_or(serial ? 1 : 64));
      if (!agent.correlate && agent.in_flight != 1) {
        in_.error(path + "/in_flight", "must be 1 where replies carry no id",
                  "remove in_flight, or set correlate to true");
      }
      const std::string sidecar = owner(entry, path);
      if (const auto port = in_.endpoint_at(entry, path, "port", host_.runtime_dir, false)) {
        add_port(sidecar, {.name = name, .listen = *port, .service = agent.service, .terms = {}}, path + "/port");
      }
      host_.agents.emplace_back(sidecar, std::move(agent));
    }
  }

  void add_port(const std::string& sidecar, PortConfig port, const std::string& path) {
    claim(port.listen, path);
    judge_local(port.listen, path);
    host_.ports.emplace_back(sidecar, std::move(port));
    port_paths_.push_back(path);
  }

  void read_ports(const Json& ports) {
    for (const auto& [name, entry] : ports.items()) {
      const std::string path = "/ports/" + name;
      if (!in_.is_object(entry, path)) continue;
      in_.only(
          entry, path,
          {"listen", "service", "budget_ms", "priority", "max_bytes", "class", "linger_ms", "linger_count", "sidecar"});
      const auto listen = in_.endpoint_at(entry, path, "listen", host_.runtime_dir, true);
      PortConfig port{.name = name,
                      .listen = listen.value_or(Endpoint()),
                      .service = in_.text(entry, path, "service", false).value_or(name),
                      .terms = in_.terms(entry, path)};
      const std::string sidecar = owner(entry, path);
      if (listen) add_port(sidecar, std::move(port), path + "/listen");
    }
  }

  void read_peers(const Json& peers) {
    for (const auto& [host, entry] : peers.items()) {
      const std::string path = "/peers/" + host;
      if (!in_.is_object(entry, path)) continue;
      in_.only(entry, path, {"compression", "bandwidth_mbps", "sidecars"});
      const std::string mode = in_.text(entry, path, "compression", false).value_or("auto");
      if (mode != "auto" && mode != "always" && mode != "never")
        in_.error(path + "/compression", "unknown mode", "auto, always or never");
      double mbps = 1000;
      if (const auto at = entry.find("bandwidth_mbps"); at != entry.end()) {
        if (!at->is_number() || at->get<double>() <= 0) {
          in_.error(path + "/bandwidth_mbps", "must be a number above 0", "1000 for gigabit Ethernet");
        } else {
          mbps = at->get<double>();
        }
      }
      const Json& sidecars = in_.object(entry, path, "sidecars");
      for (const auto& [name, sidecar] : sidecars.items()) {
        const std::string at = path + "/sidecars/" + name;
        if (!in_.is_object(sidecar, at)) continue;
        in_.only(sidecar, at, {"endpoint", "services"});
        PeerConfig peer{.host = host, .sidecar = name, .endpoint = {}, .services = {}};
        peer.compression = mode == "always"  ? wire::CompressionMode::kAlways
                           : mode == "never" ? wire::CompressionMode::kNever
                                             : wire::CompressionMode::kAuto;
        peer.bandwidth_mbps = mbps;
        const auto endpoint = in_.endpoint_at(sidecar, at, "endpoint", host_.runtime_dir, true);
        if (endpoint) judge_plain(*endpoint, at + "/endpoint"), peer.endpoint = *endpoint;
        const auto services = sidecar.find("services");
        if (services == sidecar.end() || !services->is_array()) {
          in_.error(at + "/services", "must be a list of names", "[\"translation\", \"vision\"]");
        } else {
          for (const Json& service : *services) {
            if (!service.is_string()) {
              in_.error(at + "/services", "holds something that is not a name", "write names in double quotes");
              continue;
            }
            const auto& served = service.get_ref<const std::string&>();
            judge_name(served, at + "/services");
            if (std::find(peer.services.begin(), peer.services.end(), served) == peer.services.end())
              peer.services.push_back(served);
          }
        }
        host_.peers.push_back(std::move(peer));
      }
    }
  }

  void read_limits(const Json& json) {
    in_.only(json, "/limits",
             {"calls_per_target_max", "queued_bytes_per_target", "process_queued_bytes", "connections_per_port_max",
              "cache_local_bytes", "cache_shared_bytes", "cache_disk_bytes"});
    LimitsConfig& to = host_.limits;
    constexpr int64_t kGiB = 1LL << 30;
    if (const auto n = in_.number(json, "/limits", "calls_per_target_max", 1, 65536))
      to.calls_per_target_max = static_cast<uint32_t>(*n);
    if (const auto n = in_.number(json, "/limits", "queued_bytes_per_target", 1, kGiB))
      to.queued_bytes_per_target = static_cast<uint64_t>(*n);
    if (const auto n = in_.number(json, "/limits", "process_queued_bytes", 1, kGiB))
      to.process_queued_bytes = static_cast<uint64_t>(*n);
    if (const auto n = in_.number(json, "/limits", "cache_local_bytes", 0, 64 * kGiB))
      to.cache_local_bytes = static_cast<uint64_t>(*n);
    if (const auto n = in_.number(json, "/limits", "cache_shared_bytes", 0, 64 * kGiB)) {
      to.cache_shared_bytes = static_cast<uint64_t>(*n);
      if (*n > 0 && *n < static_cast<int64_t>(cache::kSharedRegionBytesMin))
        in_.error("/limits/cache_shared_bytes", "is too little to share", "0, or at least 4194304");
    }
    if (const auto n = in_.number(json, "/limits", "cache_disk_bytes", 0, 4096 * kGiB))
      to.cache_disk_bytes = static_cast<uint64_t>(*n);
    if (const auto n = in_.number(json, "/limits", "connections_per_port_max", 1, limits::connections_max))
      to.connections_per_port_max = static_cast<uint32_t>(*n);
  }

  void judge_services() {
    std::map<std::string, std::set<std::string>> served;  // by which sidecars
    for (const auto& [sidecar, agent] : host_.agents) served[agent.service].insert(sidecar);
    for (const PeerConfig& peer : host_.peers) {
      for (const std::string& service : peer.services) served[service].insert(peer.host + "/" + peer.sidecar);
    }
    for (const auto& [service, sidecars] : served) {
      if (sidecars.size() > limits::instances_max)
        in_.error("/peers", "'" + service + "' is served by " + std::to_string(sidecars.size()) + " sidecars",
                  "a service may have 32 instances; several agents of a sidecar are one");
    }
    for (size_t i = 0; i < host_.ports.size(); ++i) {
      const std::string& service = host_.ports[i].second.service;
      if (!served.contains(service) && service != kCacheService)
        in_.error(port_paths_[i], "nobody serves '" + service + "'",
                  "add it to agents, or to the services of a peer's sidecar");
    }
  }

  void judge_name(const std::string& name, const std::string& path) {
    if (name.starts_with("mesh.")) in_.error(path, "names below 'mesh.' are the mesh's own", "choose another name");
    if (name.empty() || name.size() > limits::name_bytes) in_.error(path, "a name has 1 to 128 bytes", "");
  }
  void claim(const Endpoint& endpoint, const std::string& path) {
    const std::string key = endpoint.is_ipc ? endpoint.address : endpoint.address + ":" + std::to_string(endpoint.port);
    const auto [at, added] = claimed_.try_emplace(key, path);
    if (!added) in_.error(path, "the address " + endpoint.text + " is taken by " + at->second, "choose another port");
  }
  void judge_local(const Endpoint& endpoint, const std::string& path) {
    if (!endpoint.is_loopback()) in_.error(path, "must be on this computer", "an address in 127.0.0.0/8, or ipc://");
  }
  void judge_plain(const Endpoint& endpoint, const std::string& path) {
    if (!endpoint.is_loopback() && !host_.insecure) {
      in_.error(path, "leaves this computer, and links are not encrypted",
                "set \"insecure\": true if this network is a lab of yours");
    }
  }

  Reader& in_;
  Host& host_;
  std::map<std::string, std::string> claimed_;
  std::vector<std::string> port_paths_;
};

SidecarConfig cut(const Host& host, const std::string& name) {
  const SidecarEntry& own = host.sidecars.at(name);
  SidecarConfig config{.host = host.name,
                       .sidecar = name,
                       .insecure = host.insecure,
                       .listen = own.listen,
                       .mesh_socket = own.mesh,
                       .admin_path = own.admin,
                       .data_path = {},
                       .shared_path = {},
                       .replies_path = {},
                       .arbiter_path = {},
                       .ports = {},
                       .agents = {},
                       .peers = host.peers,
                       .contracts = host.contracts,
                       .limits = host.limits};
  for (const auto& [sidecar, port] : host.ports) {
    if (sidecar == name) config.ports.push_back(port);
  }
  // The version of what lies where is in the name: sidecars of two versions do not fight over one file.
  if (host.contracts.keeps(contract::Tier::kShared) || host.contracts.keeps(contract::Tier::kHome)) {
    config.shared_path = host.shared_dir + "/cache-" + own.category + "-" + std::to_string(cache::kSharedLayoutVersion);
  }
  std::map<std::string, PeerConfig> siblings;
  for (const auto& [sidecar, agent] : host.agents) {
    if (sidecar == name) {
      config.agents.push_back(agent);
      if (host.contracts.keeps(agent.service, contract::Tier::kDisk))
        config.replies_path = host.data_dir + "/" + name + ".replies";
      if (host.contracts.is_durable(agent.service)) config.data_path = host.data_dir + "/" + name + ".calls";
      if (host.contracts.needs_model(agent.service)) config.arbiter_path = host.arbiter_path;
    } else if (const auto& listen = host.sidecars.at(sidecar).listen) {
      PeerConfig& peer = siblings
                             .try_emplace(sidecar, PeerConfig{.host = host.name,
                                                              .sidecar = sidecar,
                                                              .endpoint = *listen,
                                                              .is_own_host = true,
                                                              .services = {},
                                                              .compression = wire::CompressionMode::kNever})
                             .first->second;
      if (std::find(peer.services.begin(), peer.services.end(), agent.service) == peer.services.end())
        peer.services.push_back(agent.service);
      if (peer.endpoint.address == "0.0.0.0") peer.endpoint.address = "127.0.0.1";
    }
  }
  for (auto& [sidecar, peer] : siblings) config.peers.push_back(std::move(peer));
  return config;
}

// Without exceptions, and no deeper than limits::json_depth_max.
std::optional<Json> parse(std::string_view text, Reader& in) {
  bool too_deep = false;
  const auto callback = [&](int depth, Json::parse_event_t, Json&) {
    if (depth > static_cast<int>(limits::json_depth_max)) too_deep = true;
    return !too_deep;
  };
  try {
    Json json = Json::parse(text, callback, true, true);
    if (too_deep) {
      in.error("", "is nested deeper than 32", "");
    } else if (!json.is_object()) {
      in.error("", "must be one object", "write {…}");
    } else {
      return json;
    }
  } catch (const Json::exception& broken) {  // also of a number that no double can hold
    in.error("", std::string("is not JSON: ") + broken.what(), "the line and column above are where reading stopped");
  }
  return std::nullopt;
}

}  // namespace

ConfigResult parse_config(std::string_view json, std::string_view sidecar, bool check_only) {
  ConfigResult result;
  Reader in(result);
  const auto root = parse(json, in);
  if (!root) return result;
  Host host;
  HostReader(in, host).read(*root);
  for (const auto& [name, entry] : host.sidecars) result.sidecars.push_back(name);
  if (host.insecure) {
    result.warnings.push_back({"/insecure", "links to other hosts are not encrypted", "for a lab only"});
  }
  std::string name(sidecar);
  if (name.empty() && host.sidecars.size() == 1) name = host.sidecars.begin()->first;
  if (name.empty() && !check_only && !host.sidecars.empty()) {
    in.error("/sidecars", "there are several", "say which one to run: --sidecar NAME");
  } else if (!name.empty() && !host.sidecars.contains(name)) {
    in.error("/sidecars", "there is no sidecar '" + name + "'", "see --sidecar");
  }
  if (result.errors.empty() && !name.empty()) result.config = cut(host, name);
  return result;
}

}  // namespace mesh::proxy
