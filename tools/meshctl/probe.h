// Round trips through the mesh beside the same without it, and where the difference goes.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "tools/meshctl/targets.h"
#include "tools/meshctl/text.h"

namespace mesh::ctl {

struct ProbeOptions {
  std::string whom;                   // HOST, HOST/SIDECAR or a service
  std::optional<std::string> body;    // for a service
  std::optional<std::string> direct;  // an agent's endpoint
  std::vector<uint64_t> sizes = {128, 1024, 65536};
  uint64_t count = 200;  // per size and path
  uint64_t interval_ms = 0;
  std::optional<std::string> svg;
};

// Probes once and gives
// {"target","from","sizes":[{"bytes","mesh":{"count","p50_us","p90_us","p99_us","max_us"},"direct": {the same} or
// null,"added_p50_us","records","recorded_p50_us","stages":[{"stage","host","p50_us"}],"plot"}],
// "clock":{"offset_us","bound_us"} or null}. Errors say what to do; those of rule "probe" are about the question
// itself. `progress` is told the share that is done, and says whether to go on; what was measured until then is the
// result.
Result<Json> probe(const Targets& targets, const ProbeOptions& options, const std::function<bool(double)>& progress);
// `before`: the result of the window before, or null; then each direction of the link is told with its change.
std::string probe_text(const Json& result, const Json& before, const Paint& paint);

}  // namespace mesh::ctl
