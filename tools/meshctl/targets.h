// The sidecars that the operator's configurations name, and their admin sockets.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"
#include "sidecar/proxy/config.h"

namespace mesh::ctl {

using Json = nlohmann::ordered_json;

// Exit codes, as --help tells them.
inline constexpr int kExitOk = 0;
inline constexpr int kExitFailed = 1;
inline constexpr int kExitUsage = 64;
inline constexpr int kExitUnreachable = 69;
inline constexpr int kExitConfig = 78;

struct Target {
  std::string file;  // the configuration that names it
  proxy::SidecarConfig config;
  std::string name() const { return config.host + "/" + config.sidecar; }
};

struct ConfigFinding {
  std::string file;
  bool is_error = false;
  proxy::ConfigError finding;
};

struct Targets {
  std::vector<Target> sidecars;  // of the files without errors
  std::vector<ConfigFinding> findings;
  bool has_errors() const;
};

// Reads the files. A file that cannot be read is a finding, too.
Targets load_targets(const std::vector<std::string>& files);

// Whether this computer has the admin socket: of the other host's sidecars only the configuration is here.
bool is_here(const Target& target);

// One line to an admin socket, its JSON answer. Waits for at most 2 s.
Result<Json> ask(const std::string& admin_path, std::string_view line);

// The same line to every sidecar that is here, with its name and answer. Whoever does not answer is told on stderr.
std::vector<std::pair<const Target*, Json>> ask_all(const Targets& targets, std::string_view line);

}  // namespace mesh::ctl
