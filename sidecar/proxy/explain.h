// Decision records as the admin socket tells them.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string_view>

#include "sidecar/proxy/engine.h"

namespace mesh::proxy {

// `which`: "newest", "slowest" or "failed", with how many behind it (20 if nothing is), or the number of one call. An
// object with "records", which is empty if there are none; null if `which` is none of these.
nlohmann::ordered_json explain(std::string_view which, Engine& engine, const SidecarConfig& config, Instant now);

}  // namespace mesh::proxy
