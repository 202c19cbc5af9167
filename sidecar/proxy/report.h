// What the admin socket answers: health, counters, open calls, as text for people or as one JSON document.
#pragma once

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
};

// The answer to one line: "health", "counters", "stats", "calls", or "explain" and which (see explain.h), with " json"
// behind it for JSON. Anything else gets a line that says what may be asked. Ends with a newline.
std::string report(std::string_view line, Engine& engine, const SidecarConfig& config, const Surroundings& around);

}  // namespace mesh::proxy
