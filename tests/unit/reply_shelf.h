// A store of replies on a real disk and a loop of its own, for tests.
#pragma once

#include <doctest/doctest.h>

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "sidecar/io/loop.h"
#include "sidecar/io/reply_store.h"
#include "tests/unit/shelf.h"

namespace mesh::io {

inline ReplyHash hash_of(uint64_t number) { return {number * 0x9E3779B97F4A7C15ULL, ~number * 0xBF58476D1CE4E5B9ULL}; }

// Alone on its loop, which therefore stops when everything is answered and cleaned up.
struct ReplyShelf final : ReplyStoreObserver {
  Loop loop;
  std::unique_ptr<LmdbReplyStore> store;
  std::map<uint64_t, std::string> loaded;  // "-" for nothing
  std::map<uint64_t, StoredReply> replies;
  std::vector<uint64_t> erased;
  std::function<void(uint64_t)> on_answer = [](uint64_t) {};
  int64_t ttl_ms = 3'600'000;
  int64_t cost_us = 10'000;

  explicit ReplyShelf(const std::string& path, uint64_t budget_bytes = 64 << 20, int64_t retry_ms = 0)
      : store(loop.open_reply_store(path, budget_bytes, retry_ms)) {
    store->set_observer(this);
    loop.run();
  }
  void on_loaded(uint64_t ticket, std::optional<StoredReply> reply) override {
    loaded[ticket] = reply ? std::string(reply->value.text()) : "-";
    if (reply) replies[ticket] = *reply;
    on_answer(ticket);
  }
  void on_erased(uint64_t ticket) override {
    erased.push_back(ticket);
    on_answer(ticket);
  }
  void put(uint64_t number, std::string_view value, const std::vector<uint64_t>& names = {}) {
    store->put(hash_of(number), Slice::copy_of(value), {.cost_us = cost_us, .ttl_ms = ttl_ms, .names = names});
  }
  void load(uint64_t number) { store->load(number, hash_of(number)); }
  void erase(uint64_t ticket, const std::vector<uint64_t>& names) { store->erase(ticket, names); }
  void put_now(uint64_t number, std::string_view value, const std::vector<uint64_t>& names = {}) {
    put(number, value, names);
    loop.run();
  }
  std::string load_now(uint64_t number) {
    load(number);
    loop.run();
    return loaded.at(number);
  }
  void erase_now(const std::vector<uint64_t>& names) {
    erase(1'000'000, names);
    loop.run();
  }
  const ReplyStore::Stats& stats() const { return store->stats(); }
};

}  // namespace mesh::io
