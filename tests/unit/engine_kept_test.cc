// What is kept of calls with a key: how much, for how long, and what of a request tells it from another.
#include <algorithm>
#include <ctime>
#include <limits>

#include "common/base/prng.h"
#include "tests/unit/engine_keys.h"

namespace mesh::proxy {
namespace {

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
    std::clock_t least = std::numeric_limits<std::clock_t>::max();  // of the processor, whoever else uses it
    for (int i = 0; i < 3; ++i) {
      Keys keys;
      const std::clock_t began = std::clock();
      CHECK(find_records(keys, count).size() == (count > limits::keys_max ? count - limits::keys_max : 0));
      least = std::min(least, std::clock() - began);
    }
    return least;
  };
  const auto few = time_of(limits::keys_max / 20);
  // Twenty times as many; four hundred times as long where each looks for its place among all.
  CHECK(time_of(limits::keys_max + 3) < 130 * few);
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

}  // namespace
}  // namespace mesh::proxy
