// What a kept reply costs in the engine: from the request of a local agent to the answer, key, look-ups and records
// included. Reading the request off the socket and writing the answer to it come on top.
#include <benchmark/benchmark.h>

#include <string>

#include "sidecar/proxy/engine.h"

namespace {

using namespace mesh;
using namespace mesh::proxy;

const Instant kNow{milliseconds(1'000'000)};

std::string body_of(size_t bytes) {
  std::string body =
      R"({"action": "translate", "source_lang": "en", "target_lang": "es", "options": {"formal": true, "beam": 4},)"
      R"( "request_id": "7c9e6679-7425-40de-944b-e07fc1f90ae7", "timestamp": 1732406400.123, "text": ")";
  while (body.size() + 2 < bytes) body += "the quick brown fox ";
  return body + "\"}";
}

// One service at one peer, whose replies are kept.
struct Caller {
  SidecarConfig config;
  std::optional<Engine> engine;
  contract::CacheTerms terms;
  Keeping keeping{.cache = &terms};
  Actions actions;

  Caller() {
    config.host = "a";
    config.sidecar = "main";
    config.peers.push_back({.host = "b", .sidecar = "main", .endpoint = {}, .services = {"ocr"}});
    terms.ttl_ms = 1'000'000;
    terms.echo_fields = {"request_id"};
    engine.emplace(config);
    engine->on(PeerConnected{0, wire::Lane::kInteractive, true}, kNow, actions);
  }
  void ask(const Slice& body) {
    engine->on(AgentRequested{.path = {.client = 7, .bytes = 0, .delimited = true, .route = {}, .header = nullptr},
                              .service = "ocr",
                              .method = "translate",
                              .budget_ms = 1000,
                              .priority = Priority::kNormal,
                              .max_bytes = 1 << 20,
                              .idempotent = true,
                              .keeping = &keeping,
                              .payload = {body, {}}},
               kNow, actions);
  }
  // Answers what is asked of the peer.
  void serve(size_t bytes) {
    for (Actions asked = std::exchange(actions, {}); const Action& action : asked) {
      if (const auto* lease = std::get_if<AskLease>(&action)) {
        engine->on(PeerLeased{lease->peer, lease->token, 70}, kNow, actions);
      } else if (const auto* call = std::get_if<SendToPeer>(&action)) {
        Outcome outcome;
        outcome.payload.body = Slice::copy_of(std::string(bytes, 'y'));
        engine->on(PeerReplied{call->peer, call->call_id, std::move(outcome)}, kNow, actions);
      }
    }
    actions.clear();
  }
};

void hit(benchmark::State& state) {
  Caller caller;
  const Slice body = Slice::copy_of(body_of(static_cast<size_t>(state.range(0))));
  caller.ask(body);
  caller.serve(1000);
  for (auto _ : state) {
    caller.ask(body);
    const bool is_answered = !caller.actions.empty() && std::holds_alternative<ReplyToAgent>(caller.actions.back());
    if (!is_answered) state.SkipWithError("a miss");
    caller.actions.clear();
  }
}
BENCHMARK(hit)->Arg(200)->Arg(1024)->Arg(16 << 10);

}  // namespace

BENCHMARK_MAIN();
