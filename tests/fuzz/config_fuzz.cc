// A configuration file that says anything.

#include <cstddef>
#include <cstdint>

#include "common/base/check.h"
#include "sidecar/proxy/config.h"

using namespace mesh;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text = as_text(ByteView(data, size));
  const auto result = proxy::parse_config(text, "", false);
  for (const auto& finding : result.errors) MESH_CHECK(!finding.text.empty());
  if (!result.errors.empty()) return 0;
  // What is accepted keeps its own rules.
  MESH_CHECK(!result.config.host.empty() && !result.config.admin_path.empty());
  for (const auto& agent : result.config.agents) {
    MESH_CHECK(agent.in_flight >= 1 && agent.in_flight <= 256 && agent.endpoint.is_loopback());
    const auto terms = result.config.contracts.lookup(agent.service, "method");
    MESH_CHECK(terms.budget_ms >= 1 && terms.budget_ms <= limits::budget_ms_max &&
               terms.max_bytes <= limits::message_bytes);
  }
  for (const auto& port : result.config.ports) MESH_CHECK(port.listen.is_loopback());
  return 0;
}
