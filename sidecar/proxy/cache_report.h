// What the admin socket answers about replies that are kept: never what they say, unless somebody asks for one by name.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "sidecar/proxy/engine.h"

namespace mesh::proxy {

// To "stats"; "keys", how many and of which service, both of which may be missing; "get", a key, and "body" if that is
// wanted, too. Null for anything else.
// `disk` may be null.
nlohmann::ordered_json cache_report(std::string_view line, Engine& engine, const SidecarConfig& config, Instant now,
                                    const ReplyStore::Stats* disk);

// How an order to purge ended.
nlohmann::ordered_json purge_report(const Outcome& outcome, const SidecarConfig& config);

}  // namespace mesh::proxy
