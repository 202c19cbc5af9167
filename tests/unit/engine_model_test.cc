// Calls of methods that compute with a model.
#include <algorithm>

#include "tests/unit/engine_studio.h"

namespace mesh::proxy {
namespace {

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

}  // namespace
}  // namespace mesh::proxy
