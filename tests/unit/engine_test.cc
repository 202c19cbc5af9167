#include "sidecar/proxy/engine.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "tests/unit/engine_bench.h"

namespace mesh::proxy {
namespace {

TEST_CASE("a serial agent gets one request at a time, the more urgent and then the one with less time first") {
  Bench bench;
  bench.tell(AgentConnected{0});
  bench.request("tts", "first");
  bench.request("tts", "patient", 900);
  bench.request("tts", "hasty", 500);
  bench.request("tts", "urgent", 900, Priority::kCritical);
  std::vector<std::string> order;
  for (auto delivered = bench.take<DeliverToAgent>(); !delivered.empty(); delivered = bench.take<DeliverToAgent>()) {
    REQUIRE(delivered.size() == 1);
    order.emplace_back(delivered[0].payload.body.text());
    bench.tell(AgentReplied{.agent = 0, .call_id = delivered[0].call_id, .payload = {}});
  }
  CHECK(order == std::vector<std::string>{"first", "urgent", "hasty", "patient"});
  CHECK(bench.engine->idle());
}

TEST_CASE("a reply after its deadline is dropped, the caller hears once, and the next one waits for the agent") {
  Bench bench;
  bench.tell(AgentConnected{0});
  bench.request("tts", "slow", 100);
  const uint64_t id = bench.take<DeliverToAgent>().at(0).call_id;
  bench.advance(109);
  CHECK(bench.only_code() == Code::kDeadline);
  bench.request("tts", "next", 1000);
  CHECK(bench.take<DeliverToAgent>().empty());  // the agent is still at it
  bench.tell(AgentReplied{.agent = 0, .call_id = id, .payload = {}});
  CHECK(bench.take<ReplyToAgent>().empty());
  CHECK(bench.take<DeliverToAgent>().size() == 1);
  CHECK(bench.engine->counters()[Counter::kLateReplies] == 1);
}

TEST_CASE("an agent that is lost leaves OUTCOME_UNKNOWN where it had the request and NOT_SENT where it had not") {
  Bench bench;
  bench.tell(AgentConnected{0});
  bench.request("tts", "had");
  bench.tell(AgentLost{0, {}});
  CHECK(bench.only_code() == Code::kOutcomeUnknown);
  bench.tell(AgentConnected{0});
  bench.request("tts", "had not");
  const uint64_t id = bench.take<DeliverToAgent>().at(1).call_id;
  bench.tell(AgentLost{0, {id}});
  CHECK(bench.only_code() == Code::kNotSent);
}

TEST_CASE("a call to an agent that is down waits a little and is then NOT_SENT") {
  Bench bench;
  bench.request("tts", "x", 4000);
  bench.advance(limits::connect_wait_ms - 10);
  CHECK(bench.take<ReplyToAgent>().empty());
  bench.advance(20);
  CHECK(bench.only_code() == Code::kNotSent);
}

TEST_CASE("a queue that is full answers OVERLOADED at once") {
  Bench bench;
  bench.tell(AgentConnected{0});
  for (int i = 0; i < 4; ++i) bench.request("tts", "x");
  CHECK(bench.take<ReplyToAgent>().empty());
  bench.request("tts", "surplus");
  CHECK(bench.only_code() == Code::kOverloaded);
}

TEST_CASE("calls spread over the instances with the fewest in flight") {
  Bench bench;
  bench.tell(PeerConnected{0, wire::Lane::kInteractive});
  bench.tell(PeerConnected{1, wire::Lane::kInteractive});
  for (int i = 0; i < 4; ++i) bench.request("ocr", "x");
  int at_first = 0;
  for (const SendToPeer& sent : bench.take<SendToPeer>()) at_first += sent.peer == 0 ? 1 : 0;
  CHECK(at_first == 2);
}

TEST_CASE("after NOT_SENT the next instance gets the call, and after all of them the caller hears NOT_SENT once") {
  Bench bench;
  bench.tell(PeerConnected{0, wire::Lane::kInteractive});
  bench.tell(PeerConnected{1, wire::Lane::kInteractive});
  bench.request("ocr", "body");
  auto sent = bench.take<SendToPeer>();
  REQUIRE(sent.size() == 1);
  const auto not_sent = [&] {
    return bench.engine->rejector().reject(Code::kNotSent, "ocr", "agent", "agent_down", "", "");
  };
  bench.tell(PeerReplied{sent[0].peer, sent[0].call_id, not_sent()});
  CHECK(bench.take<ReplyToAgent>().empty());
  auto again = bench.take<SendToPeer>();
  REQUIRE(again.size() == 1);
  CHECK(again[0].peer != sent[0].peer);
  CHECK(again[0].payload.body.text() == "body");
  bench.tell(PeerReplied{again[0].peer, again[0].call_id, not_sent()});
  CHECK(bench.only_code() == Code::kNotSent);
  CHECK(bench.engine->idle());
}

TEST_CASE("a peer that drains gets nothing more on one of its connections when the other ends first") {
  Bench bench;
  for (const PeerIndex peer : {0U, 1U}) {
    bench.tell(PeerConnected{peer, wire::Lane::kInteractive});
    bench.tell(PeerConnected{peer, wire::Lane::kBulk});
  }
  bench.tell(PeerDraining{0, wire::Lane::kInteractive});
  bench.tell(PeerLost{0, wire::Lane::kBulk, {}, {}});
  for (int i = 0; i < 4; ++i) bench.request("ocr", "x");
  for (const SendToPeer& sent : bench.take<SendToPeer>()) CHECK(sent.peer == 1);
  // Whoever listens there again is another process.
  bench.tell(PeerLost{0, wire::Lane::kInteractive, {}, {}});
  bench.tell(PeerConnected{0, wire::Lane::kInteractive});
  bench.request("ocr", "x");
  CHECK(bench.take<SendToPeer>().at(0).peer == 0);
}

TEST_CASE("what a process says before it goes is not taken for the word of the one that came after it") {
  Bench bench;
  bench.tell(PeerConnected{0, wire::Lane::kBulk});
  bench.tell(
      PeerConnected{0, wire::Lane::kInteractive});  // since it was started anew, of which the other does not know
  bench.tell(PeerDraining{0, wire::Lane::kBulk});
  bench.tell(PeerLost{0, wire::Lane::kBulk, {}, {}});
  bench.request("ocr", "x");
  CHECK(bench.take<SendToPeer>().at(0).peer == 0);
}

TEST_CASE("a lost link ends its calls truthfully: unknown where sent, another instance where certainly not") {
  Bench bench;
  bench.tell(PeerConnected{0, wire::Lane::kInteractive});
  bench.tell(PeerLost{1, wire::Lane::kInteractive, {}, {}});
  bench.request("ocr", "sent");
  bench.request("ocr", "torn");
  const auto sent = bench.take<SendToPeer>();
  REQUIRE(sent.size() == 2);
  bench.tell(PeerLost{0, wire::Lane::kInteractive, {sent[1].call_id}, {}});
  CHECK(bench.only_code() == Code::kOutcomeUnknown);
  const auto moved = bench.take<SendToPeer>();
  REQUIRE(moved.size() == 1);
  CHECK(moved[0].peer == 1);
  CHECK(moved[0].payload.body.text() == "torn");
}

TEST_CASE("a peer may only answer what was asked of it") {
  Bench bench;
  bench.tell(PeerConnected{0, wire::Lane::kInteractive});
  bench.request("ocr", "x");
  const auto sent = bench.take<SendToPeer>();
  const PeerIndex other = sent.at(0).peer == 0 ? 1 : 0;
  bench.tell(PeerReplied{other, sent[0].call_id, {}});
  CHECK(bench.take<ReplyToAgent>().empty());
  bench.tell(PeerReplied{sent[0].peer, sent[0].call_id, {}});
  CHECK(bench.only_code() == Code::kOk);
  bench.tell(PeerReplied{sent[0].peer, sent[0].call_id, {}});
  CHECK(bench.take<ReplyToAgent>().empty());
}

TEST_CASE("a caller that goes away takes its queued call with it") {
  Bench bench;
  bench.tell(AgentConnected{0});
  bench.request("tts", "working");
  const ClientId gone = bench.request("tts", "queued");
  const uint64_t id = bench.take<DeliverToAgent>().at(0).call_id;
  bench.tell(ClientClosed{gone});
  bench.tell(AgentReplied{.agent = 0, .call_id = id, .payload = {}});
  CHECK(bench.take<DeliverToAgent>().empty());
  CHECK(bench.engine->idle());
}

TEST_CASE("while draining, new calls are refused and accepted ones are answered") {
  Bench bench;
  bench.tell(AgentConnected{0});
  bench.request("tts", "accepted");
  const uint64_t id = bench.take<DeliverToAgent>().at(0).call_id;
  bench.tell(DrainRequested{});
  bench.request("tts", "late");
  CHECK(bench.only_code() == Code::kDraining);
  bench.tell(AgentReplied{.agent = 0, .call_id = id, .payload = {}});
  CHECK(bench.only_code() == Code::kOk);
  CHECK(bench.engine->idle());
}

}  // namespace
}  // namespace mesh::proxy
