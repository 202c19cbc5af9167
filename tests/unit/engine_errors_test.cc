// Every error that a caller can be given names who decided, where, by which rule, and what to do.
#include <doctest/doctest.h>

#include <functional>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "common/wire/message.h"
#include "sidecar/proxy/engine.h"

namespace mesh::proxy {
namespace {

struct Scene {
  SidecarConfig config;
  std::unique_ptr<Engine> engine;
  Actions actions;
  Instant now{milliseconds(1'000'000)};

  Scene() {
    config.host = "a";
    config.sidecar = "main";
    config.agents.push_back({.name = "tts", .service = "tts", .endpoint = {}});
    config.peers.push_back({.host = "b", .sidecar = "main", .endpoint = {}, .services = {"ocr"}});
    config.limits.calls_per_target_max = 2;
    config.limits.process_queued_bytes = 1000;
  }
  void begin() { engine = std::make_unique<Engine>(config); }
  template <class Event>
  void tell(Event event) {
    engine->on(std::move(event), now, actions);
  }
  void ask(std::string_view service, size_t bytes = 10, int64_t budget_ms = 1000, uint64_t dropped_frames = 0) {
    tell(AgentRequested{.path = {.client = 1, .delimited = true, .route = {}, .header = nullptr},
                        .service = service,
                        .method = {},
                        .budget_ms = budget_ms,
                        .max_bytes = 500,
                        .dropped_frames = dropped_frames,
                        .payload = {Slice::copy_of(std::string(bytes, 'x')), {}}});
  }
  void pass(int64_t ms) {
    now += milliseconds(ms);
    engine->on_time(now, actions);
  }
  void connect_peer() { tell(PeerConnected{0, wire::Lane::kInteractive}); }
  uint64_t sent() {
    for (const Action& action : actions) {
      if (const auto* send = std::get_if<SendToPeer>(&action)) return send->call_id;
    }
    return 0;
  }
};

struct Row {
  const char* what;
  Code code;
  std::string stage;
  std::string rule;
  std::function<void(Scene&)> play;
};

const std::vector<Row> kRows = {
    {"nobody serves it", Code::kNoRoute, "admission", "unknown_service", [](Scene& s) { s.ask("nothing"); }},
    {"too large", Code::kTooLarge, "admission", "request_bytes", [](Scene& s) { s.ask("tts", 501); }},
    {"too many parts", Code::kTooLarge, "admission", "request_frames", [](Scene& s) { s.ask("tts", 1, 1000, 3); }},
    {"no time", Code::kDeadline, "admission", "deadline_passed", [](Scene& s) { s.ask("tts", 1, 0); }},
    {"out of memory", Code::kOverloaded, "admission", "memory",
     [](Scene& s) {
       s.config.limits.calls_per_target_max = 100;
       s.begin();
       for (int i = 0; i < 3; ++i) s.ask("ocr", 400);
     }},
    {"too many at the peer", Code::kOverloaded, "admission", "target_full",
     [](Scene& s) {
       for (int i = 0; i < 3; ++i) s.ask("ocr");
     }},
    {"too many before the agent", Code::kOverloaded, "admission", "queue_full",
     [](Scene& s) {
       for (int i = 0; i < 3; ++i) s.ask("tts");
     }},
    {"shutting down", Code::kDraining, "admission", "draining",
     [](Scene& s) {
       s.tell(DrainRequested{});
       s.ask("tts");
     }},
    {"all instances shut down", Code::kDraining, "routing", "all_draining",
     [](Scene& s) {
       s.connect_peer();
       s.tell(PeerDraining{0, wire::Lane::kInteractive});
       s.ask("ocr");
     }},
    {"the agent is down", Code::kNotSent, "agent", "agent_down",
     [](Scene& s) {
       s.ask("tts", 1, 5000);
       s.pass(limits::connect_wait_ms + 10);
     }},
    {"the agent dies with it", Code::kOutcomeUnknown, "agent", "agent_lost",
     [](Scene& s) {
       s.tell(AgentConnected{0});
       s.ask("tts");
       s.tell(AgentLost{0, {}});
     }},
    {"the agent never had it", Code::kNotSent, "agent", "agent_lost",
     [](Scene& s) {
       s.tell(AgentConnected{0});
       s.ask("tts");
       uint64_t id = 0;
       for (const Action& action : s.actions) {
         if (const auto* deliver = std::get_if<DeliverToAgent>(&action)) id = deliver->call_id;
       }
       s.tell(AgentLost{0, {id}});
     }},
    {"the agent is too slow", Code::kDeadline, "agent", "deadline_passed",
     [](Scene& s) {
       s.tell(AgentConnected{0});
       s.ask("tts");
       s.pass(1100);
     }},
    {"the queue is too slow", Code::kDeadline, "queue", "deadline_passed",
     [](Scene& s) {
       s.tell(AgentConnected{0});
       s.ask("tts", 1, 5000);
       s.actions.clear();
       s.ask("tts", 1, 100);
       s.pass(200);
     }},
    {"the reply is too large", Code::kTooLarge, "agent", "reply_bytes",
     [](Scene& s) {
       s.tell(AgentConnected{0});
       s.ask("tts");
       for (const Action& action : Actions(std::move(s.actions))) {
         if (const auto* deliver = std::get_if<DeliverToAgent>(&action)) {
           s.tell(AgentReplied{.agent = 0, .call_id = deliver->call_id, .dropped_bytes = 1 << 30, .payload = {}});
         }
       }
     }},
    {"the peer cannot be reached", Code::kNotSent, "link", "peer_unreachable",
     [](Scene& s) {
       s.ask("ocr", 1, 5000);
       s.pass(limits::connect_wait_ms + 10);
     }},
    {"the peer says nothing", Code::kDeadline, "link", "deadline_passed",
     [](Scene& s) {
       s.connect_peer();
       s.ask("ocr");
       s.pass(1100);
     }},
    {"the link breaks with it", Code::kOutcomeUnknown, "link", "link_lost",
     [](Scene& s) {
       s.connect_peer();
       s.ask("ocr");
       s.tell(PeerLost{0, wire::Lane::kInteractive, {}, {}});
     }},
    {"the link breaks before it", Code::kNotSent, "link", "link_lost",
     [](Scene& s) {
       s.connect_peer();
       s.ask("ocr");
       s.tell(PeerLost{0, wire::Lane::kInteractive, {s.sent()}, {}});
     }},
};

TEST_CASE("every error names hop, stage, rule, hint and the call, and the caller reads all of it") {
  std::set<Code> seen;
  for (const Row& row : kRows) {
    CAPTURE(row.what);
    Scene scene;
    scene.begin();
    row.play(scene);
    const Error* error = nullptr;
    for (const Action& action : scene.actions) {
      if (const auto* reply = std::get_if<ReplyToAgent>(&action)) error = reply->outcome.error.get();
    }
    REQUIRE(error != nullptr);
    CHECK(error->code == row.code);
    CHECK(error->stage == row.stage);
    CHECK(error->rule == row.rule);
    seen.insert(error->code);
    const auto reply = nlohmann::json::parse(wire::reply_for(*error));
    CHECK(reply["status"] == "error");
    CHECK(reply["code"] == std::string(to_string(row.code)));
    CHECK(reply["error"] == reply["message"]);
    for (const char* field : {"service", "hop", "stage", "rule", "hint", "call"}) {
      CHECK_MESSAGE(!reply["mesh"][field].get<std::string>().empty(), field);
    }
    CHECK(reply["mesh"]["hop"] == "a/main");
    CHECK(reply["mesh"]["call"].get<std::string>().starts_with("a/main-"));
    // The record of the call says the same.
    const auto records = scene.engine->outbound().recorder().log().failed(100);
    REQUIRE_FALSE(records.empty());
    CHECK(records[0]->code == row.code);
    CHECK(records[0]->stage.view() == row.stage);
    CHECK(records[0]->rule.view() == row.rule);
  }
  CHECK(seen == std::set<Code>{Code::kNoRoute, Code::kOverloaded, Code::kDraining, Code::kDeadline, Code::kNotSent,
                               Code::kOutcomeUnknown, Code::kTooLarge});
}

TEST_CASE("a call whose header cannot be read is counted, written down and answered like any other that failed") {
  Scene scene;
  scene.begin();
  AgentRequested unreadable;
  unreadable.path.client = 1;
  unreadable.unreadable = std::make_unique<Error>(rule_broken(Code::kInvalid, "header_json", "no JSON"));
  scene.tell(std::move(unreadable));
  REQUIRE(scene.actions.size() == 1);
  const auto* reply = std::get_if<ReplyToAgent>(scene.actions.data());
  REQUIRE(reply != nullptr);
  CHECK(reply->outcome.error->stage == "mesh_header");
  CHECK(reply->outcome.error->hop == "a/main");
  CHECK_FALSE(reply->outcome.error->call.empty());
  CHECK(scene.engine->counters().results[static_cast<size_t>(Code::kInvalid)] == 1);
  const auto records = scene.engine->outbound().recorder().log().failed(100);
  REQUIRE(records.size() == 1);
  CHECK(records[0]->rule.view() == "header_json");
}

TEST_CASE("any code of the closed set is a reply that names all it was given") {
  for (int number = 1; number < kCodeCount; ++number) {
    Error error;
    error.code = static_cast<Code>(number);
    error.text = "what happened";
    error.service = "s";
    error.hop = "h/x";
    error.stage = "stage";
    error.rule = "rule";
    error.hint = "what to do";
    error.call = "h/x-1";
    const auto reply = nlohmann::json::parse(wire::reply_for(error));
    CHECK(reply["code"] == std::string(to_string(error.code)));
    CHECK(reply["mesh"] == nlohmann::json{{"service", "s"},
                                          {"hop", "h/x"},
                                          {"stage", "stage"},
                                          {"rule", "rule"},
                                          {"hint", "what to do"},
                                          {"call", "h/x-1"}});
  }
}

}  // namespace
}  // namespace mesh::proxy
