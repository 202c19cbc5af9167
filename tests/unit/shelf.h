// A store on a real disk and a loop of its own, for tests.
#pragma once

#include <doctest/doctest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "sidecar/io/lmdb_store.h"
#include "sidecar/io/loop.h"

namespace mesh::io {

inline constexpr size_t kMapBytes = 1 << 20;

struct Directory {
  std::string path;
  explicit Directory(const std::string& base = "/tmp") : path(base + "/mesh-store-test-XXXXXX") {
    REQUIRE(mkdtemp(path.data()) != nullptr);
  }
  ~Directory() { std::system(("rm -r " + path).c_str()); }
};

// In memory where that can be had: for tests that sync often and do not care.
struct QuickDirectory : Directory {
  QuickDirectory() : Directory(access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp") {}
};

inline RecordKey key_of(uint64_t number) {
  RecordKey key{};
  std::memcpy(key.data(), &number, sizeof(number));
  return key;
}

inline uint64_t number_of(const RecordKey& key) {
  uint64_t number = 0;
  std::memcpy(&number, key.data(), sizeof(number));
  return number;
}

// A store alone on its loop, which therefore stops when everything is answered.
struct Shelf final : RecordObserver {
  Loop loop;
  std::unique_ptr<LmdbStore> store;
  std::vector<std::string> answers;  // in the order in which they came
  std::map<uint64_t, bool> stored;
  std::map<uint64_t, std::string> loaded;  // "-" for nothing
  std::function<void(uint64_t)> on_answer = [](uint64_t) {};

  explicit Shelf(const std::string& path, size_t map_bytes = kMapBytes) {
    auto opened = loop.open_store(path, map_bytes);
    REQUIRE(opened.has_value());
    store = std::move(*opened);
    store->set_observer(this);
  }
  void on_stored(uint64_t ticket, bool is_stored) override {
    answers.push_back("stored " + std::to_string(ticket));
    stored[ticket] = is_stored;
    on_answer(ticket);
  }
  void on_loaded(uint64_t ticket, std::optional<Slice> value) override {
    answers.push_back("loaded " + std::to_string(ticket));
    loaded[ticket] = value ? std::string(value->text()) : "-";
    on_answer(ticket);
  }
  void put(uint64_t number, std::string_view value) { store->put(number, key_of(number), {Slice::copy_of(value)}); }
  void load(uint64_t number) { store->load(number, key_of(number)); }
  bool put_now(uint64_t number, std::string_view value) {
    put(number, value);
    loop.run();
    return stored.at(number);
  }
  std::string load_now(uint64_t number) {
    load(number);
    loop.run();
    return loaded.at(number);
  }
  std::vector<uint64_t> recover() {
    std::vector<uint64_t> numbers;
    for (const auto& found : store->recover(0)) numbers.push_back(number_of(found.key));
    std::sort(numbers.begin(), numbers.end());
    return numbers;
  }
};

}  // namespace mesh::io
