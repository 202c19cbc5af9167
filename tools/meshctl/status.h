// Health of sidecars for people.
#pragma once

#include <string>

#include "tools/meshctl/fields.h"
#include "tools/meshctl/text.h"

namespace mesh::ctl {

// One answer to "health": a line for the sidecar, then one for each agent and peer.
std::string status_text(const Json& health, const Paint& paint);
// The line of a sidecar that gave none, and why.
std::string missing_text(const std::string& name, const std::string& why, const Paint& paint);
// The line of one that is on another computer.
std::string elsewhere_text(const std::string& name, const Paint& paint);

}  // namespace mesh::ctl
