// One look at every sidecar of this computer.
#pragma once

#include <string>

#include "tools/meshctl/targets.h"
#include "tools/meshctl/text.h"

namespace mesh::ctl {

// The answer to "health" of one sidecar: a line for it, one per agent and one per peer.
std::string status_text(const Json& health, const Paint& paint);

}  // namespace mesh::ctl
