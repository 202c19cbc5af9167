// One engine between its events and its actions.
#pragma once

#include <doctest/doctest.h>

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "sidecar/proxy/engine.h"

namespace mesh::proxy {

inline const Instant kStart{milliseconds(1'000'000)};

// One sidecar with a serial local agent "tts", and "ocr" at two peers.
struct Bench {
  SidecarConfig config;
  std::optional<Engine> engine;
  Actions actions;
  Instant now = kStart;
  ClientId next_client = 100;

  Bench() {
    config.host = "a";
    config.sidecar = "main";
    config.agents.push_back({.name = "tts", .service = "tts", .endpoint = {}});
    for (const char* host : {"b", "c"}) {
      config.peers.push_back({.host = host, .sidecar = "main", .endpoint = {}, .services = {"ocr"}});
    }
    config.limits.calls_per_target_max = 4;
    engine.emplace(config);
  }
  template <class Event>
  void tell(Event event) {
    engine->on(std::move(event), now, actions);
  }
  // The next requests: may be sent again; are of this key.
  bool idempotent = false;
  int64_t hedge_ms = 0;
  std::shared_ptr<const CallKey> key;
  const contract::CacheTerms* cache = nullptr;
  const std::vector<contract::TagPattern>* invalidates = nullptr;

  ClientId request(std::string_view service, std::string_view body, int64_t budget_ms = 1000,
                   Priority priority = Priority::kNormal) {
    const ClientId client = next_client++;
    const Keeping keeping{.cache = cache, .invalidates = invalidates};
    tell(AgentRequested{.path = {.client = client, .bytes = 0, .delimited = true, .route = {}, .header = nullptr},
                        .service = service,
                        .method = {},
                        .budget_ms = budget_ms,
                        .priority = priority,
                        .max_bytes = 1 << 20,
                        .idempotent = idempotent,
                        .hedge_ms = hedge_ms,
                        .key = key,
                        .keeping = &keeping,
                        .payload = {Slice::copy_of(body), {}}});
    return client;
  }
  void advance(int64_t ms) {
    now += milliseconds(ms);
    engine->on_time(now, actions);
  }
  // Takes all actions of one kind out, in order.
  template <class Kind>
  std::vector<Kind> take() {
    std::vector<Kind> taken;
    Actions rest;
    for (Action& action : actions) {
      if (auto* match = std::get_if<Kind>(&action)) {
        taken.push_back(std::move(*match));
      } else {
        rest.push_back(std::move(action));
      }
    }
    actions = std::move(rest);
    return taken;
  }
  // The one call that is to be sent now.
  SendToPeer sent() {
    auto all = take<SendToPeer>();
    REQUIRE(all.size() == 1);
    return std::move(all[0]);
  }
  Code only_code() {
    auto replies = take<ReplyToAgent>();
    REQUIRE(replies.size() == 1);
    return replies[0].outcome.code;
  }
};

}  // namespace mesh::proxy
