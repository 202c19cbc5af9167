#include "tests/unit/engine_keys.h"

namespace mesh::proxy {
namespace {

TEST_CASE("the same request with the same key is executed once, and both are told the same") {
  for (const char* service : {"tts", "pay"}) {
    Keys keys;
    const AgentIndex agent = std::string_view(service) == "pay" ? 1 : 0;
    keys.ask(service, "say hi", "k");
    keys.answer(agent, keys.delivered(), "hi");
    CHECK(keys.replies() == Texts{"hi"});
    keys.ask(service, "say hi", "k");
    CHECK(keys.take<DeliverToAgent>().empty());
    CHECK(keys.replies() == Texts{"hi"});
    CHECK(keys.engine->counters()[Counter::kKeyedDuplicates] == 1);
    CHECK(keys.engine->idle());
  }
}

TEST_CASE("a duplicate of a call under way waits for it, and has the time that it brings") {
  Keys keys;
  keys.ask("pay", "x", "k", "a/main/p", 100);
  const uint64_t id = keys.delivered();
  keys.advance(50);
  keys.ask("pay", "x", "k", "a/main/p", 1000);
  CHECK(keys.take<DeliverToAgent>().empty());
  keys.advance(500);  // the first one's time is long up: its caller's side says so; here both wait
  keys.answer(1, id, "done");
  CHECK(keys.replies().back() == "done");
  CHECK(keys.engine->idle());
}

TEST_CASE("a key that comes again with another request is INVALID, and other callers' keys are others") {
  Keys keys;
  keys.ask("tts", "one", "k");
  keys.answer(0, keys.delivered(), "1");
  keys.replies();
  keys.ask("tts", "two", "k");
  CHECK(keys.replies() == Texts{"INVALID"});
  keys.ask("tts", "two", "k", "a/main/q");
  keys.answer(0, keys.delivered(), "2");
  CHECK(keys.replies() == Texts{"2"});
  keys.ask("pay", "two", "k");
  keys.answer(1, keys.delivered(), "3");
  CHECK(keys.replies() == Texts{"3"});
}

TEST_CASE("what is durable is on disk before the agent gets it, and its result before anybody hears of it") {
  Keys keys;
  keys.is_slow = true;
  keys.ask("pay", "x", "k");
  CHECK(keys.take<DeliverToAgent>().empty());
  keys.is_slow = false;
  keys.write_down();
  const uint64_t id = keys.delivered();
  keys.is_slow = true;
  keys.answer(1, id, "done");
  CHECK(keys.replies().empty());
  keys.is_slow = false;
  keys.write_down();
  CHECK(keys.replies() == Texts{"done"});
}

TEST_CASE("after a restart a durable result is told again, and of what was under way that nobody knows") {
  Keys keys;
  keys.ask("pay", "x", "known");
  keys.answer(1, keys.delivered(), "done");
  keys.ask("pay", "y", "in between");
  keys.delivered();
  keys.replies();
  keys.restart();
  keys.ask("pay", "x", "known");
  CHECK(keys.replies() == Texts{"done"});
  keys.ask("pay", "y", "in between");
  CHECK(keys.replies() == Texts{"OUTCOME_UNKNOWN"});
  CHECK(keys.take<DeliverToAgent>().empty());
}

TEST_CASE("a call that gets no memory for its model leaves no trace, and with its key it may be asked again") {
  for (const bool is_durable : {false, true}) {
    Keys keys;
    keys.config.arbiter_path = "arbiter";
    contract::Declaration terms{.durable = is_durable};
    terms.model = contract::ModelTerms{.name = "m", .bytes = 1 << 30, .hold_ms = 1000, .load_ms = 100};
    keys.config.contracts.declare_service("tts", terms);
    keys.restart();
    keys.ask("tts", "x", "k");
    CHECK(keys.take<AskModel>().size() == 1);
    keys.tell(ModelRefused{0, Code::kOverloaded, "never_fits"});
    keys.write_down();
    CHECK(keys.replies() == Texts{"OVERLOADED"});
    CHECK(keys.disk.empty());
    CHECK(keys.engine->idle());
    keys.ask("tts", "x", "k");
    keys.tell(ModelGranted{0});
    keys.answer(0, keys.delivered(), "done");
    CHECK(keys.replies() == Texts{"done"});
  }
}

TEST_CASE("a call whose time is up when it is written down does not reach its agent, and leaves no trace") {
  Keys keys;
  keys.is_slow = true;
  keys.ask("pay", "x", "k", "a/main/p", 100);
  keys.now += milliseconds(100);
  keys.is_slow = false;
  keys.write_down();
  CHECK(keys.take<DeliverToAgent>().empty());
  CHECK(keys.replies() == Texts{"DEADLINE"});
  CHECK(keys.disk.empty());
}

TEST_CASE("an agent that went away ends nobody's wait for a result that is being written down") {
  Keys keys;
  keys.ask("pay", "x", "k");
  const uint64_t id = keys.delivered();
  keys.is_slow = true;
  keys.answer(1, id, "done");
  keys.tell(AgentLost{1, {}});
  keys.ask("pay", "x", "k", "a/main/p", 5000);
  keys.advance(limits::connect_wait_ms + 100);
  CHECK(keys.replies().empty());
  keys.is_slow = false;
  keys.write_down();
  CHECK(keys.replies() == Texts{"done", "done"});
}

TEST_CASE("a call that is being written down while its agent is away is told of the agent, once it is written") {
  Keys keys;
  keys.tell(AgentLost{1, {}});
  keys.is_slow = true;
  keys.ask("pay", "x", "k", "a/main/p", 5000);
  keys.advance(limits::connect_wait_ms + 100);
  CHECK(keys.replies().empty());
  keys.is_slow = false;
  keys.write_down();
  keys.advance(1);
  keys.write_down();
  CHECK(keys.replies() == Texts{"NOT_SENT"});
  CHECK(keys.disk.empty());
}

TEST_CASE("a call that the agent certainly has nothing of waits for it, and if that was in vain leaves no trace") {
  Keys keys;
  keys.ask("pay", "x", "k");
  const uint64_t id = keys.delivered();
  keys.tell(AgentLost{1, {id}});
  keys.write_down();
  CHECK(keys.replies().empty());
  keys.advance(limits::connect_wait_ms + 10);
  keys.write_down();
  CHECK(keys.replies() == Texts{"NOT_SENT"});
  CHECK(keys.disk.empty());
  keys.tell(AgentConnected{1});
  keys.ask("pay", "x", "k");
  keys.answer(1, keys.delivered(), "done");
  CHECK(keys.replies() == Texts{"done"});
}

TEST_CASE("an agent that dies with a call leaves OUTCOME_UNKNOWN for good") {
  for (const char* service : {"tts", "pay"}) {
    Keys keys;
    const AgentIndex agent = std::string_view(service) == "pay" ? 1 : 0;
    keys.ask(service, "x", "k");
    keys.delivered();
    keys.tell(AgentLost{agent, {}});
    keys.tell(AgentConnected{agent});
    CHECK(keys.replies() == Texts{"OUTCOME_UNKNOWN"});
    keys.ask(service, "x", "k");
    CHECK(keys.replies() == Texts{"OUTCOME_UNKNOWN"});
    CHECK(keys.take<DeliverToAgent>().empty());
  }
}

TEST_CASE("a result that comes after its caller's deadline is kept for who asks again") {
  Keys keys;
  keys.ask("pay", "x", "k", "a/main/p", 100);
  const uint64_t id = keys.delivered();
  keys.advance(150);
  CHECK(keys.replies() == Texts{"DEADLINE"});
  keys.answer(1, id, "late");
  CHECK(keys.replies().empty());
  keys.ask("pay", "x", "k");
  CHECK(keys.replies() == Texts{"late"});
}

TEST_CASE("a result of an agent without ids is waited for after its caller's deadline, too") {
  Keys keys;
  keys.config.agents[0].correlate = false;
  keys.restart();
  keys.ask("tts", "x", "k", "a/main/p", 100);
  keys.delivered();
  keys.advance(200);
  CHECK(keys.replies() == Texts{"DEADLINE"});
  CHECK(keys.take<ReplaceAgentConnection>().empty());
  keys.ask("tts", "y", "other", "a/main/p", 10'000);
  CHECK(keys.take<DeliverToAgent>().empty());
  keys.answer(0, 0, "late");
  keys.delivered();
  keys.ask("tts", "x", "k");
  CHECK(keys.replies() == Texts{"late"});
}

TEST_CASE("an agent that never answers is given up, however often it is asked for the same again") {
  Keys keys;
  keys.ask("pay", "x", "k", "a/main/p", 100);
  keys.delivered();
  int64_t waited_ms = 0;
  for (; waited_ms < 2 * limits::agent_abandon_ms; waited_ms += 1000) {
    keys.advance(1000);
    if (!keys.take<ReplaceAgentConnection>().empty()) break;
    keys.ask("pay", "x", "k", "a/main/p", 5000);
  }
  CHECK(waited_ms <= limits::agent_abandon_ms + 2000);
  keys.replies();
  keys.tell(AgentLost{1, {}});
  for (const std::string& reply : keys.replies()) CHECK(reply == "OUTCOME_UNKNOWN");
  CHECK(keys.engine->idle());
}

TEST_CASE("a call whose caller is gone is executed no more if it still waits, and remembered if not") {
  Keys keys;
  const ClientId first = keys.ask("tts", "x", "with the agent");
  const uint64_t id = keys.delivered();
  const ClientId second = keys.ask("tts", "y", "in the queue");
  keys.tell(ClientClosed{first});
  keys.tell(ClientClosed{second});
  CHECK(keys.engine->audit() == "");
  CHECK(keys.engine->idle());
  keys.answer(0, id, "done");
  CHECK(keys.take<DeliverToAgent>().empty());
  keys.ask("tts", "x", "with the agent");
  CHECK(keys.replies() == Texts{"done"});
}

}  // namespace
}  // namespace mesh::proxy
