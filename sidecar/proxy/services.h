// Which services there are and where their instances live, as the configuration says.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/contract/contract.h"
#include "common/routing/retry_budget.h"
#include "sidecar/proxy/config.h"
#include "sidecar/proxy/events.h"

namespace mesh::proxy {

struct Instance {
  bool local = false;  // served by agents of this sidecar
  PeerIndex peer = 0;  // else by this peer
  bool own_host = false;
  uint32_t in_flight = 0;
  uint64_t bytes_in_flight = 0;
  uint64_t name_digest = 0;  // of "host/sidecar": the same for every caller
};

struct Service {
  std::string name;
  contract::Terms terms;                           // of calls whose method is not known
  const contract::MethodNaming* naming = nullptr;  // null: methods need not be known
  std::vector<Instance> instances;
  std::vector<AgentIndex> agents;  // of this sidecar
  routing::RetryBudget retries;
  bool has_writes = false;  // some of its methods make kept replies wrong
  bool is_at_home = false;  // some of its replies are kept beside its agents
  bool is_on_disk = false;  // likewise on their disk
  // Of replies that are fetched to be kept, lately: what the agent took, and what the way took.
  double answer_us = 0;
  double way_us = 0;
  bool is_echo = false;   // this sidecar's own, for probes
  bool is_cache = false;  // likewise, for orders to what is kept
  bool has_local() const { return is_echo || !agents.empty(); }
};

// The service that gives back what it gets, one per sidecar: probes measure the way there. Names below "mesh." are
// ours.
inline constexpr std::string_view kOwnNames = "mesh.";
// The service at which local agents order purges.
inline constexpr std::string_view kCacheService = "mesh.cache";
std::string echo_service(std::string_view host, std::string_view sidecar);

class Services {
 public:
  // `config` must outlive this.
  explicit Services(const SidecarConfig& config);

  std::optional<ServiceIndex> find(std::string_view name) const;
  Service& operator[](ServiceIndex index) { return services_[index]; }
  const Service& operator[](ServiceIndex index) const { return services_[index]; }
  size_t size() const { return services_.size(); }
  bool any_at_home() const { return any_at_home_; }
  // Of each peer a digest of its name, its services, which of them others serve and which are written: the same in each
  // sidecar that knows the same of it.
  std::vector<uint64_t> views() const;
  contract::Terms terms(ServiceIndex index, std::string_view method) const;

 private:
  ServiceIndex intern(const std::string& name);
  void name_instances();

  const SidecarConfig* config_;
  bool any_at_home_ = false;
  std::vector<Service> services_;
  std::map<std::string, ServiceIndex, std::less<>> by_name_;
  mutable ServiceIndex last_found_ = 0;  // calls come in bursts to one service
};

}  // namespace mesh::proxy
