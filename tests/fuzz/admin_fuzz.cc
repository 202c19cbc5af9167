// A line to the admin socket that says anything.

#include <cstddef>
#include <cstdint>

#include "common/base/check.h"
#include "sidecar/proxy/report.h"

using namespace mesh;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const proxy::SidecarConfig config = [] {
    proxy::SidecarConfig made;
    made.host = "h";
    made.sidecar = "main";
    made.agents.push_back({.name = "a", .service = "a", .endpoint = {}});
    made.peers.push_back({.host = "b", .sidecar = "main", .endpoint = {}, .services = {"b"}});
    return made;
  }();
  static proxy::Engine engine(config);
  const std::string answer = proxy::report(as_text(ByteView(data, size)), engine, config, {});
  MESH_CHECK(answer.ends_with('\n') && answer.size() < 8192);
  return 0;
}
