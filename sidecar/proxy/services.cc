#include "sidecar/proxy/services.h"

#include "common/routing/rendezvous.h"
#include "common/wire/digest.h"

namespace mesh::proxy {

std::string echo_service(std::string_view host, std::string_view sidecar) {
  return "mesh.echo@" + std::string(host) + "/" + std::string(sidecar);
}

Services::Services(const SidecarConfig& config) : config_(&config) {
  for (AgentIndex i = 0; i < config.agents.size(); ++i) {
    Service& service = services_[intern(config.agents[i].service)];
    if (service.agents.empty()) service.instances.push_back({.local = true, .own_host = true});
    service.agents.push_back(i);
  }
  for (PeerIndex i = 0; i < config.peers.size(); ++i) {
    for (const std::string& name : config.peers[i].services) {
      services_[intern(name)].instances.push_back({.peer = i, .own_host = config.peers[i].is_own_host});
    }
  }
  for (const PortConfig& port : config.ports) intern(port.service);
  services_[intern(std::string(kCacheService))].is_cache = true;
  Service& own = services_[intern(echo_service(config.host, config.sidecar))];
  own.is_echo = true;
  own.instances.push_back({.local = true, .own_host = true});
  for (PeerIndex i = 0; i < config.peers.size(); ++i) {
    const PeerConfig& peer = config.peers[i];
    services_[intern(echo_service(peer.host, peer.sidecar))].instances.push_back(
        {.peer = i, .own_host = peer.is_own_host});
  }
  name_instances();
}

void Services::name_instances() {
  for (Service& service : services_) {
    for (Instance& instance : service.instances) {
      const bool is_local = instance.local;
      const std::string& host = is_local ? config_->host : config_->peers[instance.peer].host;
      const std::string& sidecar = is_local ? config_->sidecar : config_->peers[instance.peer].sidecar;
      instance.name_digest = wire::digest_of({host, sidecar}).short_form();
    }
  }
}

std::vector<uint64_t> Services::views() const {
  std::vector<uint64_t> views;
  for (const PeerConfig& peer : config_->peers)
    views.push_back(wire::digest_of({peer.host, peer.sidecar}).short_form());
  for (const Service& service : services_) {
    const uint64_t name = wire::digest_of({service.name, service.has_writes ? "written" : ""}).short_form();
    uint64_t view = name;
    for (const Instance& instance : service.instances) view += routing::rendezvous_weight(name, instance.name_digest);
    for (const Instance& instance : service.instances) {
      if (!instance.local) views[instance.peer] += routing::rendezvous_weight(view, instance.name_digest);
    }
  }
  return views;
}

ServiceIndex Services::intern(const std::string& name) {
  const auto [at, added] = by_name_.try_emplace(name, static_cast<ServiceIndex>(services_.size()));
  if (added)
    services_.push_back({.name = name,
                         .terms = config_->contracts.lookup(name, {}),
                         .naming = config_->contracts.naming(name),
                         .instances = {},
                         .agents = {},
                         .retries = {},
                         .has_writes = config_->contracts.invalidates(name),
                         .is_at_home = config_->contracts.keeps(name, contract::Tier::kHome) ||
                                       config_->contracts.keeps(name, contract::Tier::kDisk),
                         .is_on_disk = config_->contracts.keeps(name, contract::Tier::kDisk)});
  any_at_home_ = any_at_home_ || services_[at->second].is_at_home;
  return at->second;
}

std::optional<ServiceIndex> Services::find(std::string_view name) const {
  if (last_found_ < services_.size() && services_[last_found_].name == name) return last_found_;
  const auto at = by_name_.find(name);
  if (at == by_name_.end()) return std::nullopt;
  last_found_ = at->second;
  return last_found_;
}

contract::Terms Services::terms(ServiceIndex index, std::string_view method) const {
  const Service& service = services_[index];
  return method.empty() ? service.terms : config_->contracts.lookup(service.name, method);
}

}  // namespace mesh::proxy
