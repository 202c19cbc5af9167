// The sidecars that the operator's configurations name, and their admin sockets.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/base/result.h"
#include "sidecar/proxy/config.h"
#include "tools/meshctl/fields.h"

namespace mesh::ctl {

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
  std::string names() const;  // "a/main, b/main"
};

// Reads the files. A file that cannot be read is a finding, too.
Targets load_targets(const std::vector<std::string>& files);

inline constexpr int kAnswerWait_s = 2;

// One line to the admin socket of a sidecar, its JSON answer; waits at most so long for each part of it. The rule of an
// error is "admin_unreachable", "admin_refused" (it does not know the line), or "admin_of_another": two hosts may use
// the same path, and the sidecar of the other one answers here.
Result<Json> ask(const Target& target, std::string_view line, int wait_s = kAnswerWait_s);

// The same of any admin socket: the line, with its end, as it is; whose answer that is nobody looks at.
Result<Json> ask_socket(const std::string& path, const std::string& line, int wait_s);

// What became of one question to all. The targets must outlive it.
struct Answers {
  std::vector<std::pair<const Target*, Json>> given;
  std::vector<std::pair<const Target*, Error>> missing;
  std::vector<const Target*> elsewhere;  // on another computer, so that nobody could have answered here
};
Answers ask_all(const Targets& targets, std::string_view line, int wait_s = kAnswerWait_s);

}  // namespace mesh::ctl
