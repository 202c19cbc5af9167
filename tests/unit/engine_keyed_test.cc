#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <map>

#include "common/base/prng.h"
#include "tests/unit/engine_bench.h"

namespace mesh::proxy {
namespace {

using Record = std::map<wire::Digest, std::string>;

// Callers with keys beside the agent "tts"; "pay" is durable. What is to be written down is, when the test says so.
struct Keys : Bench {
  Record disk;
  bool is_slow = false;  // the disk does not answer by itself
  bool is_full = false;

  Keys() {
    config.agents.push_back({.name = "pay", .service = "pay", .endpoint = {}});
    config.contracts.declare_service("pay", {.durable = true});
    restart();
  }
  // kill -9 of the sidecar: what is on disk is there again.
  void restart() {
    actions.clear();
    engine.emplace(config);
    for (const auto& [name, value] : disk) {
      const auto head = wire::decode_kept_head(as_bytes(value));
      REQUIRE(head);
      engine->inbound().remember(name, *head, milliseconds(0), value.size());
    }
    engine->inbound().use_records(now, actions);
    tell(AgentConnected{0});
    tell(AgentConnected{1});
  }
  ClientId ask(std::string_view service, std::string_view body, std::string name, std::string caller = "a/main/p",
               int64_t budget_ms = 1000) {
    key = std::make_shared<const CallKey>(CallKey{std::move(name), std::move(caller)});
    const ClientId client = request(service, body, budget_ms);
    write_down();
    return client;
  }
  void answer(AgentIndex agent, uint64_t id, std::string_view body) {
    tell(AgentReplied{.agent = agent, .call_id = id, .payload = {Slice::copy_of(body), {}}});
    write_down();
  }
  void write_down() {
    if (is_slow) return;
    for (bool is_more = true; is_more;) {
      is_more = false;
      for (const EraseRecord& erased : take<EraseRecord>()) disk.erase(erased.key);
      for (const LoadRecord& load : take<LoadRecord>()) {
        is_more = true;
        tell(RecordLoaded{load.ticket, Slice::copy_of(disk.at(load.key))});
      }
      for (PutRecord& put : take<PutRecord>()) {
        is_more = true;
        std::string value;
        for (const Slice& slice : put.value) value += slice.text();
        if (!is_full) disk[put.key] = value;
        tell(RecordStored{put.ticket, !is_full});
      }
    }
    CHECK(engine->audit() == "");
  }
  std::vector<std::string> replies() {
    std::vector<std::string> texts;
    for (const ReplyToAgent& reply : take<ReplyToAgent>()) {
      const bool is_ok = reply.outcome.code == Code::kOk;
      texts.emplace_back(is_ok ? reply.outcome.payload.body.text() : to_string(reply.outcome.code));
    }
    return texts;
  }
  uint64_t delivered() {
    const auto all = take<DeliverToAgent>();
    REQUIRE(all.size() == 1);
    return all[0].call_id;
  }
};
using Texts = std::vector<std::string>;

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

TEST_CASE("a disk that takes nothing is told as STORAGE, before the agent is asked or instead of its result") {
  Keys keys;
  keys.is_full = true;
  keys.ask("pay", "x", "k");
  CHECK(keys.replies() == Texts{"STORAGE"});
  CHECK(keys.take<DeliverToAgent>().empty());
  keys.is_full = false;
  keys.ask("pay", "x", "k");
  const uint64_t id = keys.delivered();
  keys.is_full = true;
  keys.answer(1, id, "done");
  CHECK(keys.replies() == Texts{"STORAGE"});
  keys.ask("pay", "x", "k");
  CHECK(keys.replies() == Texts{"STORAGE"});
  CHECK(keys.take<DeliverToAgent>().empty());
}

TEST_CASE("keys are forgotten after their window, on disk too, and then the call is a new one") {
  Keys keys;
  keys.ask("pay", "x", "k");
  keys.answer(1, keys.delivered(), "first");
  keys.replies();
  keys.advance(limits::key_window_ms - 10);
  keys.write_down();
  CHECK(keys.disk.size() == 1);
  keys.advance(20);
  keys.write_down();
  CHECK(keys.disk.empty());
  keys.ask("pay", "x", "k");
  keys.answer(1, keys.delivered(), "second");
  CHECK(keys.replies() == Texts{"second"});
}

wire::Digest number_key(uint64_t number) { return wire::digest_of({std::to_string(number)}); }

// So many records of results, of ages in no order.
std::vector<wire::Digest> find_records(Keys& keys, size_t count) {
  Prng prng(7);
  for (size_t i = 0; i < count; ++i) {
    wire::KeptRecord head;
    head.is_result = true;
    keys.engine->inbound().remember(number_key(i), head, milliseconds(1 + static_cast<int64_t>(prng.next() % 500'000)),
                                    0);
  }
  keys.engine->inbound().use_records(keys.now, keys.actions);
  std::vector<wire::Digest> erased;
  for (const EraseRecord& erase : keys.take<EraseRecord>()) erased.push_back(erase.key);
  return erased;
}

TEST_CASE("an attempt whose agent wrote some fields anew is the same request where the body holds its key") {
  for (const size_t size : {size_t{1}, limits::canonical_body_bytes, limits::MiB - 200}) {
    for (const char* number : {"1", "123456789012345678901234567890"}) {  // one that only bytes can compare
      Keys keys;
      contract::Declaration terms;
      terms.idempotency_field = "order";
      keys.config.contracts.declare_service("tts", terms);
      keys.restart();
      const auto body = [&](const std::string& id, int amount) {
        return R"({"order":"k","request_id":")" + id + R"(","n":)" + number + R"(,"amount":)" + std::to_string(amount) +
               R"(,"data":")" + std::string(size, 'x') + R"(","timestamp":)" + id + "}";
      };
      keys.ask("tts", body("17", 5), "k");
      keys.answer(0, keys.delivered(), "done");
      CHECK(keys.replies() == Texts{"done"});
      keys.ask("tts", body("18.5", 5), "k");
      CHECK(keys.replies() == Texts{"done"});
      keys.ask("tts", body("18.5", 6), "k");
      CHECK(keys.replies() == Texts{"INVALID"});
      // A key from elsewhere says nothing of what the agent writes anew.
      keys.ask("tts", body("17", 5), "in the header");
      keys.answer(0, keys.delivered(), "done");
      keys.replies();
      keys.ask("tts", body("18.5", 5), "in the header");
      CHECK(keys.replies() == Texts{"INVALID"});
    }
  }
}

TEST_CASE("of more keys than are remembered the oldest goes when a new one comes, on disk too") {
  Keys keys;
  wire::KeptRecord head;
  for (size_t i = 0; i < limits::keys_max; ++i) {
    keys.engine->inbound().remember(number_key(i), head, milliseconds(i == 4711 ? 2000 : 1000), 0);
  }
  keys.engine->inbound().use_records(keys.now, keys.actions);
  CHECK(keys.take<EraseRecord>().empty());
  keys.is_slow = true;
  keys.ask("tts", "x", "one more");
  const auto erased = keys.take<EraseRecord>();
  REQUIRE(erased.size() == 1);
  CHECK(erased[0].key == number_key(4711));
}

TEST_CASE("of more keys on disk than are remembered the newest are kept, in a time that grows as their number does") {
  const auto time_of = [](size_t count) {
    auto least = std::chrono::steady_clock::duration::max();
    for (int i = 0; i < 3; ++i) {
      Keys keys;
      const auto began = std::chrono::steady_clock::now();
      CHECK(find_records(keys, count).size() == (count > limits::keys_max ? count - limits::keys_max : 0));
      least = std::min(least, std::chrono::steady_clock::now() - began);
    }
    return least;
  };
  const auto few = time_of(limits::keys_max / 5);
  CHECK(time_of(limits::keys_max + 3) < 15 * few);  // five times as many; 25 times as long where it is quadratic
}

TEST_CASE("results that are too large or too many for memory are not kept, and nothing is executed twice for it") {
  Keys keys;
  keys.ask("tts", "x", "large");
  keys.answer(0, keys.delivered(), std::string(limits::kept_result_bytes + 1, 'x'));
  keys.replies();
  keys.ask("tts", "x", "large");
  CHECK(keys.replies() == Texts{"STORAGE"});
  const size_t count = limits::kept_results_bytes / limits::kept_result_bytes + 1;
  for (size_t i = 0; i < count; ++i) {
    keys.ask("tts", "x", "k" + std::to_string(i));
    keys.answer(0, keys.delivered(), std::string(limits::kept_result_bytes, 'x'));
    keys.replies();
  }
  keys.ask("tts", "x", "k0");
  CHECK(keys.replies() == Texts{"STORAGE"});
  keys.ask("tts", "x", "k" + std::to_string(count - 1));
  CHECK(keys.replies().at(0).size() == limits::kept_result_bytes);
  CHECK(keys.take<DeliverToAgent>().empty());
}

TEST_CASE("results that are read from disk are so many bytes in memory, also of a caller who is gone") {
  for (const bool is_restarted : {false, true}) {
    Keys keys;
    const std::string result(1000, 'x');
    keys.ask("pay", "x", "k");
    keys.answer(1, keys.delivered(), result);
    keys.replies();
    keys.config.limits.process_queued_bytes = 2500;
    if (is_restarted) keys.restart();
    keys.is_slow = true;
    const ClientId gone = keys.ask("pay", "x", "k");
    keys.ask("pay", "x", "k");
    CHECK(keys.replies().empty());
    keys.ask("pay", "x", "k");
    CHECK(keys.replies() == Texts{"OVERLOADED"});
    keys.tell(ClientClosed{gone});
    CHECK(keys.engine->audit() == "");
    keys.ask("pay", "x", "k");
    CHECK(keys.replies() == Texts{"OVERLOADED"});
    keys.is_slow = false;
    keys.write_down();
    CHECK(keys.replies() == Texts{result});
    CHECK(keys.engine->idle());
    CHECK(keys.engine->inbound().queued_bytes() == 0);
  }
}

TEST_CASE("nobody waits on for a result that is read from disk for a caller who is gone") {
  Keys keys;
  keys.ask("pay", "x", "k");
  keys.answer(1, keys.delivered(), "done");
  keys.replies();
  keys.is_slow = true;
  keys.tell(ClientClosed{keys.ask("pay", "x", "k")});
  CHECK(keys.engine->idle());
  CHECK(keys.engine->audit() == "");
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
