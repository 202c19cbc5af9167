// A line to the admin socket that says anything, of an engine that has something to tell.

#include <cstddef>
#include <cstdint>

#include "common/base/check.h"
#include "sidecar/proxy/report.h"

using namespace mesh;

namespace {

proxy::AgentRequested request(std::string_view service) {
  proxy::AgentRequested asked;
  asked.path.client = 1;
  asked.service = service;
  asked.method = "m";
  asked.budget_ms = 1000;
  asked.max_bytes = 1000;
  return asked;
}

// One call that failed, one that a peer answered and one that is open.
void fill(proxy::Engine& engine) {
  proxy::Actions actions;
  const Instant now{milliseconds(1)};
  engine.on(request("nowhere"), now, actions);
  engine.on(proxy::PeerConnected{.peer = 0, .lane = wire::Lane::kInteractive}, now, actions);
  engine.on(request("b"), now, actions);
  const uint64_t call_id = std::get<proxy::SendToPeer>(actions.back()).call_id;
  const wire::BatchShape batch{.envelopes = 1, .plain_bytes = 100, .wire_bytes = 100};
  const proxy::CallsLeft::Call left{.call_id = call_id, .batch_wait_us = 5, .budget_us = 900};
  engine.outbound().note({.batch = batch, .calls = {&left, 1}}, now);
  const wire::CalleeSpans spans{.received_us = 1, .decompress_us = 2, .queue_us = 3, .agent_us = 4};
  engine.on(proxy::PeerReplied{.peer = 0, .call_id = call_id, .outcome = {}, .spans = &spans, .batch = &batch},
            now + milliseconds(5), actions);
  engine.on(request("b"), now, actions);
}

}  // namespace

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
  static const bool is_filled = (fill(engine), true);
  static_cast<void>(is_filled);
  const std::string answer = proxy::report(as_text(ByteView(data, size)), engine, config, {});
  MESH_CHECK(answer.ends_with('\n') && answer.size() < 8192);
  return 0;
}
