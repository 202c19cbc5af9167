// Calls of methods that compute with a model.
#include <doctest/doctest.h>

#include <algorithm>

#include "tests/unit/engine_bench.h"

namespace mesh::proxy {
namespace {

constexpr int64_t kHold_ms = 5000;

// Two agents that take one request each; "read" and "scan" compute with one model, "count" with none.
struct Studio : Bench {
  Studio() {
    config.arbiter_path = "arbiter";
    config.agents = {{.name = "one", .service = "eye", .endpoint = {}},
                     {.name = "two", .service = "eye", .endpoint = {}}};
    const contract::ModelTerms model{.name = "trocr", .bytes = 1 << 30, .hold_ms = kHold_ms, .load_ms = 3000};
    for (const char* method : {"read", "scan"}) {
      contract::Declaration terms;
      terms.model = model;
      config.contracts.declare_method("eye", method, terms);
    }
    contract::Declaration other;
    other.model = contract::ModelTerms{.name = "other", .bytes = 1 << 30, .hold_ms = 60'000, .load_ms = 400};
    config.contracts.declare_method("eye", "zoom", other);
    config.contracts.declare_method("eye", "count", {});
    engine.emplace(config);
    for (AgentIndex i : {0U, 1U}) tell(AgentConnected{i});
  }
  ~Studio() { CHECK(engine->audit() == ""); }
  uint64_t next_call = 1;
  void ask(std::string_view method, Priority priority = Priority::kNormal, int64_t budget_ms = 60'000) {
    tell(PeerRequested{.link = 7,
                       .call_id = next_call++,
                       .service = "eye",
                       .method = method,
                       .budget = milliseconds(budget_ms),
                       .priority = priority,
                       .payload = {Slice::copy_of(method), {}}});
  }
  std::vector<std::string> delivered() {
    std::vector<std::string> bodies;
    for (const DeliverToAgent& each : take<DeliverToAgent>()) {
      bodies.emplace_back(each.payload.body.text());
      held.push_back(each);
    }
    return bodies;
  }
  void answer() {
    const DeliverToAgent first = held.front();
    held.erase(held.begin());
    tell(AgentReplied{.agent = first.agent, .call_id = first.call_id, .payload = {Slice::copy_of("done"), {}}});
  }
  size_t asks() { return take<AskModel>().size(); }
  size_t returns() { return take<ReturnModel>().size(); }
  std::vector<Code> codes() {
    std::vector<Code> all;
    for (const SendReply& reply : take<SendReply>()) all.push_back(reply.outcome.code);
    return all;
  }
  std::vector<DeliverToAgent> held;
};
using Bodies = std::vector<std::string>;

TEST_CASE("an agent gets a request that needs a model when its memory is granted, and not before") {
  Studio studio;
  studio.ask("read", Priority::kInteractive);
  CHECK(studio.delivered().empty());
  const auto asked = studio.take<AskModel>();
  REQUIRE(asked.size() == 1);
  CHECK(asked[0].order.model == "trocr");
  CHECK(asked[0].order.bytes == 1 << 30);
  CHECK(asked[0].order.priority == Priority::kInteractive);
  CHECK(asked[0].order.load_ms == 3000);
  studio.tell(ModelGranted{asked[0].model});
  CHECK(studio.delivered() == Bodies{"read"});
  studio.answer();
  CHECK(studio.codes() == std::vector<Code>{Code::kOk});
}

TEST_CASE("who needs no model passes those who wait for one") {
  Studio studio;
  studio.ask("read");
  studio.ask("count");
  CHECK(studio.delivered() == Bodies{"count"});
}

TEST_CASE("a burst shares one lease, which goes back when nobody has come for a while") {
  Studio studio;
  studio.ask("read");
  studio.ask("scan");
  studio.ask("read");
  CHECK(studio.asks() == 1);
  studio.tell(ModelGranted{0});
  CHECK(studio.delivered().size() == 2);
  for (int i = 0; i < 3; ++i) studio.answer(), studio.delivered();
  studio.advance(kHold_ms - 1);
  CHECK(studio.returns() == 0);
  studio.ask("scan");  // the lease is still there
  CHECK(studio.delivered() == Bodies{"scan"});
  studio.answer();
  studio.advance(kHold_ms - 1);
  CHECK(studio.returns() == 0);
  studio.advance(1);
  CHECK(studio.returns() == 1);
  studio.ask("read");
  CHECK(studio.delivered().empty());
  CHECK(studio.asks() == 1);
}

TEST_CASE("what is recalled goes back when the last user has ended, and who came meanwhile asks again") {
  Studio studio;
  studio.ask("read");
  studio.tell(ModelGranted{0});
  studio.delivered();
  studio.asks();
  studio.tell(ModelRecalled{0});
  CHECK(studio.returns() == 0);
  studio.ask("scan");
  CHECK(studio.delivered().empty());
  CHECK(studio.asks() == 0);
  studio.answer();
  REQUIRE(studio.actions.size() >= 2);
  const auto at = [&](auto is_it) { return std::find_if(studio.actions.begin(), studio.actions.end(), is_it); };
  CHECK(at([](const Action& action) { return std::holds_alternative<ReturnModel>(action); }) <
        at([](const Action& action) { return std::holds_alternative<AskModel>(action); }));
  CHECK(studio.returns() == 1);
  CHECK(studio.asks() == 1);
  studio.tell(ModelGranted{0});
  CHECK(studio.delivered() == Bodies{"scan"});
  studio.tell(ModelRecalled{0});
  studio.tell(ModelRecalled{0});
  studio.answer();
  CHECK(studio.returns() == 1);
  studio.ask("read");
  studio.tell(ModelGranted{0});
  studio.delivered();
  studio.answer();
  studio.tell(ModelRecalled{0});  // idle: at once
  CHECK(studio.returns() == 1);
}

TEST_CASE("who comes while memory is recalled has it asked for with his own urgency") {
  for (const Priority priority : {Priority::kCritical, Priority::kNormal}) {
    Studio studio;
    studio.ask("read", Priority::kBatch);
    studio.tell(ModelGranted{0});
    studio.delivered();
    studio.asks();
    studio.tell(ModelRecalled{0});
    studio.ask("scan", priority);
    studio.ask("scan", Priority::kBatch);
    studio.answer();
    const auto asked = studio.take<AskModel>();
    REQUIRE(asked.size() == 1);
    CHECK(asked[0].order.priority == priority);
  }
}

TEST_CASE("who is refused is told the arbiter's reason, and the next one asks again") {
  Studio studio;
  studio.ask("read");
  studio.ask("scan");
  studio.tell(ModelRefused{0, Code::kOverloaded, "never_fits"});
  const auto replies = studio.take<SendReply>();
  REQUIRE(replies.size() == 2);
  CHECK(replies[0].outcome.code == Code::kOverloaded);
  CHECK(replies[0].outcome.error->stage == "model");
  CHECK(replies[0].outcome.error->rule == "never_fits");
  CHECK(studio.engine->idle());
  CHECK(studio.asks() == 1);
  studio.ask("read");
  CHECK(studio.asks() == 1);
}

TEST_CASE("who waits in vain is told so at his deadline, and nothing is asked for that nobody wants") {
  Studio studio;
  studio.ask("read", Priority::kNormal, 100);
  CHECK(studio.asks() == 1);
  studio.advance(100);
  const auto replies = studio.take<SendReply>();
  REQUIRE(replies.size() == 1);
  CHECK(replies[0].outcome.code == Code::kDeadline);
  CHECK(replies[0].outcome.error->stage == "model");
  CHECK(studio.returns() == 1);
  studio.tell(ModelGranted{0});  // it crossed
  CHECK(studio.delivered().empty());
  studio.ask("scan");
  CHECK(studio.asks() == 1);
}

TEST_CASE("one who is more urgent has it asked for anew") {
  Studio studio;
  studio.ask("read", Priority::kBatch);
  studio.ask("scan", Priority::kNormal);
  studio.ask("scan", Priority::kBatch);
  CHECK(studio.returns() == 1);
  const auto asked = studio.take<AskModel>();
  REQUIRE(asked.size() == 2);
  CHECK(asked[1].order.priority == Priority::kNormal);
}

TEST_CASE("an agent that still works for nobody keeps its model") {
  Studio studio;
  studio.ask("read", Priority::kNormal, 100);
  studio.tell(ModelGranted{0});
  studio.delivered();
  studio.advance(100);
  CHECK(studio.codes() == std::vector<Code>{Code::kDeadline});
  studio.tell(ModelRecalled{0});
  CHECK(studio.returns() == 0);
  studio.answer();
  CHECK(studio.returns() == 1);
}

TEST_CASE("an agent that is lost with the request uses the model no more") {
  Studio studio;
  studio.ask("read");
  studio.tell(ModelGranted{0});
  studio.delivered();
  studio.tell(AgentLost{.agent = studio.held[0].agent, .not_sent = {}});
  CHECK(studio.codes() == std::vector<Code>{Code::kOutcomeUnknown});
  studio.tell(ModelRecalled{0});
  CHECK(studio.returns() == 1);
}

TEST_CASE("a lease that the arbiter knows no more is asked for by whoever comes, and disturbs nobody") {
  Studio studio;
  studio.ask("read");
  studio.tell(ModelGranted{0});
  studio.delivered();
  studio.asks();
  studio.tell(ModelLost{0});
  studio.ask("scan");
  CHECK(studio.delivered().empty());
  CHECK(studio.asks() == 1);
  studio.answer();
  studio.tell(ModelGranted{0});
  CHECK(studio.delivered() == Bodies{"scan"});
  studio.answer();
  CHECK(studio.codes() == std::vector<Code>{Code::kOk, Code::kOk});
}

TEST_CASE("where two models of one sidecar do not fit, the first makes room once its loading was worth it") {
  for (const bool is_busy : {false, true}) {
    Studio studio;
    studio.ask("read");
    studio.tell(ModelGranted{0});
    studio.delivered();
    if (!is_busy) studio.answer();
    studio.asks();
    studio.ask("zoom");
    studio.tell(ModelQueued{1});
    CHECK(studio.returns() == 0);
    studio.advance(4999);
    CHECK(studio.returns() == 0);
    studio.ask("scan");  // what is there is used
    studio.advance(4001);
    CHECK(studio.returns() == 0);
    studio.ask("scan");
    size_t scanned = 0;
    for (studio.delivered(); !studio.held.empty(); studio.delivered()) {
      scanned += studio.held.front().payload.body.text() == "scan" ? 1 : 0;
      studio.answer();
    }
    CHECK(scanned == 1);  // of the two the one that came in time
    CHECK(studio.returns() == 1);
    CHECK(studio.asks() == 2);  // for the other, and for the one that came too late
    studio.tell(ModelGranted{1});
    CHECK(studio.delivered() == Bodies{"zoom"});
  }
}

TEST_CASE("of several models only as many make room as are needed, and nothing wakes up for more") {
  for (const bool is_busy : {false, true}) {
    Studio studio;
    contract::Declaration third;
    third.model = contract::ModelTerms{.name = "third", .bytes = 1 << 30, .hold_ms = 60'000, .load_ms = 400};
    studio.config.contracts.declare_method("eye", "third", third);
    studio.engine.emplace(studio.config);
    for (AgentIndex i : {0U, 1U}) studio.tell(AgentConnected{i});
    const auto model_of = [&] { return studio.take<AskModel>().at(0).model; };
    std::vector<ModelIndex> held;
    for (const char* method : {"zoom", "third"}) {
      studio.ask(method);
      held.push_back(model_of());
      studio.tell(ModelGranted{held.back()});
      studio.delivered();
      studio.advance(10);
      if (!is_busy) studio.answer();
    }
    studio.advance(20'000);
    studio.ask("read");
    studio.tell(ModelQueued{model_of()});
    CHECK(studio.returns() == (is_busy ? 0 : 1));
    CHECK(studio.engine->next_deadline() > studio.now);
    for (int i = 0; i < 5; ++i) studio.advance(1000);
    CHECK(studio.returns() == 0);
  }
}

// The pid that memory was asked for; -1 if none was.
int64_t asked_for(Studio& studio) {
  const auto asked = studio.take<AskModel>();
  return asked.empty() ? -1 : static_cast<int64_t>(asked.back().order.pid);
}

TEST_CASE("memory is leased on behalf of the agents' process, if all who may use it are one") {
  Studio studio;
  studio.ask("read");
  CHECK(asked_for(studio) == 0);  // nobody knows
  studio.tell(ModelGranted{0});
  studio.tell(AgentConnected{.agent = 0, .pid = 70});
  CHECK(studio.returns() == 0);
  studio.ask("zoom");
  CHECK(asked_for(studio) == 0);
  studio.tell(AgentConnected{.agent = 1, .pid = 70});
  CHECK(asked_for(studio) == -1);  // what was asked for nobody in particular stays so
  Studio other;
  for (AgentIndex i : {0U, 1U}) other.tell(AgentConnected{.agent = i, .pid = 70});
  other.ask("read");
  CHECK(asked_for(other) == 70);
}

TEST_CASE(
    "what was leased for a process that has another after it is leased anew, what was only connected anew is not") {
  Studio studio;
  for (AgentIndex i : {0U, 1U}) studio.tell(AgentConnected{.agent = i, .pid = 70});
  studio.ask("read");
  studio.tell(ModelGranted{0});
  studio.delivered();
  studio.answer();
  studio.take<AskModel>();
  studio.tell(AgentLost{.agent = 0, .not_sent = {}});
  studio.tell(AgentConnected{.agent = 0, .pid = 70});
  CHECK(studio.returns() == 0);
  for (AgentIndex i : {0U, 1U}) studio.tell(AgentLost{.agent = i, .not_sent = {}});
  CHECK(studio.returns() == 0);
  studio.tell(AgentConnected{.agent = 0, .pid = 71});
  CHECK(studio.returns() == 1);
  studio.tell(AgentConnected{.agent = 1, .pid = 71});
  studio.ask("read");
  CHECK(asked_for(studio) == 71);
  // Also while it is waited for.
  for (AgentIndex i : {0U, 1U}) studio.tell(AgentLost{.agent = i, .not_sent = {}});
  for (AgentIndex i : {0U, 1U}) studio.tell(AgentConnected{.agent = i, .pid = 72});
  CHECK(studio.returns() >= 1);
  CHECK(asked_for(studio) == 72);
}

TEST_CASE("what ends with its agents' process is asked for anew for the calls that no agent has seen") {
  Studio studio;
  for (AgentIndex i : {0U, 1U}) studio.tell(AgentConnected{i, 100});
  for (int i = 0; i < 3; ++i) studio.ask("read");
  studio.tell(ModelGranted{0});
  CHECK(studio.delivered().size() == 2);  // and one is queued
  studio.asks();
  for (AgentIndex i : {0U, 1U}) studio.tell(AgentLost{.agent = i, .not_sent = {}});
  studio.tell(ModelLost{0});
  CHECK(studio.asks() == 1);
  studio.tell(ModelGranted{0});
  studio.tell(AgentConnected{0, 200});
  CHECK(studio.delivered().empty());
  CHECK(asked_for(studio) == 200);
  studio.tell(ModelGranted{0});
  CHECK(studio.delivered() == Bodies{"read"});
}

TEST_CASE("what the arbiter has forgotten is used by nobody who had not begun") {
  Studio studio;
  for (int i = 0; i < 3; ++i) studio.ask("read");
  studio.tell(ModelGranted{0});
  CHECK(studio.delivered().size() == 2);
  studio.asks();
  studio.tell(ModelLost{0});
  studio.answer();
  CHECK(studio.delivered().empty());
  CHECK(studio.asks() == 1);
  studio.tell(ModelGranted{0});
  CHECK(studio.delivered() == Bodies{"read"});
}

TEST_CASE("without an arbiter agents get what they are asked") {
  Studio studio;
  studio.config.arbiter_path.clear();
  studio.ask("read");
  CHECK(studio.delivered() == Bodies{"read"});
  CHECK(studio.asks() == 0);
  studio.answer();
}

TEST_CASE("a call that waits for its agent's next process waits for that one's memory, too") {
  Studio studio;
  for (AgentIndex i : {0U, 1U}) studio.tell(AgentConnected{i, 100});
  for (int i = 0; i < 3; ++i) studio.ask("read");
  studio.tell(ModelGranted{0});
  CHECK(studio.delivered().size() == 2);  // and one is queued
  studio.take<AskModel>();
  for (AgentIndex i : {0U, 1U}) studio.tell(AgentLost{.agent = i, .not_sent = {}});
  CHECK(studio.returns() == 0);
  studio.tell(AgentConnected{0, 200});
  CHECK(studio.delivered().empty());
  CHECK(studio.returns() == 1);
  const auto asked = studio.take<AskModel>();
  REQUIRE(asked.size() == 1);
  CHECK(asked[0].order.pid == 200);
  studio.tell(ModelGranted{0});
  CHECK(studio.delivered() == Bodies{"read"});
}

}  // namespace
}  // namespace mesh::proxy
