// What the admin socket answers: health, counters, open calls, as text for people or as one JSON document.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "sidecar/proxy/engine.h"

namespace mesh::proxy {

struct Surroundings {
  size_t clients = 0;
  bool draining = false;
  size_t connections_max = 0;
  Instant started{};
  Instant now{};
  const ReplyStore::Stats* disk = nullptr;  // of replies; null: none are there
};

// The answer to one line: "health", "counters", "stats", "calls", "explain" and which (see explain.h), or "cache" and
// what of it (see cache_report.h), with " json" behind it for JSON. Anything else gets a line that says what may be
// asked. Ends with a newline. A line that is " json" at its end asks for JSON; cut off.
bool take_json_suffix(std::string_view& line);
// As text, a line per object, or as JSON on one line.
std::string report_text(const nlohmann::ordered_json& json, bool as_json);
std::string report(std::string_view line, Engine& engine, const SidecarConfig& config, const Surroundings& around);

}  // namespace mesh::proxy
