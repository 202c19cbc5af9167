// Callers with idempotency keys, and a disk that does what the test says.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tests/unit/engine_bench.h"

namespace mesh::proxy {

// What is on disk is known to an engine that begins.
inline void use_records(Bench& bench, const std::map<wire::Digest, std::string>& disk) {
  for (const auto& [name, value] : disk) {
    const auto head = wire::decode_kept_head(as_bytes(value));
    REQUIRE(head);
    bench.engine->inbound().remember(name, *head, milliseconds(0), value.size());
  }
  bench.engine->inbound().use_records(bench.now, bench.actions);
}

// Callers with keys beside the agent "tts"; "pay" is durable. What is to be written down is, when the test says so.
struct Keys : Bench {
  std::map<wire::Digest, std::string> disk;
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
    use_records(*this, disk);
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

}  // namespace mesh::proxy
