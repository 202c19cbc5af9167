// For which process of an agent memory for a model is leased, and what becomes of it with the next one.
#include "tests/unit/engine_studio.h"

namespace mesh::proxy {
namespace {

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
