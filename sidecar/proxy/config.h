// The per-host JSON, validated, and cut down to what one sidecar needs.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/endpoint.h"
#include "common/base/limits.h"
#include "common/base/priority.h"
#include "common/contract/contract.h"
#include "common/wire/compression.h"

namespace mesh::proxy {

enum class AgentSocket : uint8_t { kRep, kRouter, kDealer };

// An agent this sidecar delivers to.
struct AgentConfig {
  std::string name;
  std::string service;
  Endpoint endpoint;
  AgentSocket socket = AgentSocket::kRep;
  // true: [id, empty, body], replies are matched by id. false: [empty, body] and one in flight, for agents that accept
  // exactly three frames.
  bool correlate = true;
  uint32_t in_flight = 1;  // how many it may work on at once; REP is serial
};

// A local port that plain REQ and DEALER sockets talk to; all it receives is for one service.
struct PortConfig {
  std::string name;
  Endpoint listen;
  std::string service;
  contract::Declaration terms;  // of this port, before the contract's
};

// Another sidecar that serves instances of services, on this host or another.
struct PeerConfig {
  std::string host;
  std::string sidecar;
  Endpoint endpoint;
  bool is_own_host = false;
  std::vector<std::string> services;
  wire::CompressionMode compression = wire::CompressionMode::kAuto;
  double bandwidth_mbps = 1000;
};

struct LimitsConfig {
  uint32_t calls_per_target_max = limits::calls_per_target_max;
  uint64_t queued_bytes_per_target = limits::queued_bytes_per_target;
  uint64_t process_queued_bytes = limits::process_queued_bytes;
  uint32_t connections_per_port_max = limits::connections_per_port_max;
  uint64_t cache_local_bytes = limits::cache_local_bytes;
  std::optional<uint64_t> cache_shared_bytes;  // of all sidecars of a category together; 0: they share nothing
  uint64_t cache_disk_bytes = limits::cache_disk_bytes;
  int64_t disk_ttl_ms_min = limits::disk_ttl_ms_min;
};

// Everything one mesh-sidecar process needs to run.
struct SidecarConfig {
  std::string host;
  std::string sidecar;
  bool insecure = false;
  std::optional<Endpoint> listen;       // for peers; none if it serves nobody else
  std::optional<Endpoint> mesh_socket;  // for calls by service name
  std::string admin_path;               // AF_UNIX
  std::string data_path;                // of results that are kept on disk; empty: none are
  std::string shared_path;              // of memory for replies that sidecars of its category share; empty: none is
  std::string replies_path;             // of replies that are kept on disk; empty: none are
  std::string arbiter_path;             // AF_UNIX, of who leases GPU memory for agents' models; empty: nobody does
  std::vector<PortConfig> ports;
  std::vector<AgentConfig> agents;
  std::vector<PeerConfig> peers;
  contract::Table contracts;
  LimitsConfig limits;
};

// One finding about a config: where, what, and how to mend it.
struct ConfigError {
  std::string path;  // e.g. "/agents/tts/endpoint"
  std::string text;
  std::string hint;
};

struct ConfigResult {
  SidecarConfig config;               // meaningful only when errors is empty
  std::vector<std::string> sidecars;  // all names in the file
  std::vector<ConfigError> errors;
  std::vector<ConfigError> warnings;  // e.g. insecure
};

// Reads the whole file and reports all errors at once. `sidecar` picks one; it may be empty when the file has just one.
// With `check_only` and an empty name every sidecar of the file is checked.
ConfigResult parse_config(std::string_view json, std::string_view sidecar, bool check_only);

}  // namespace mesh::proxy
