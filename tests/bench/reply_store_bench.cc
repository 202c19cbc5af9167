// How long replies on disk take to come and go. The store lies in $TMPDIR, or in /tmp.
#include <benchmark/benchmark.h>

#include <chrono>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "sidecar/io/loop.h"
#include "sidecar/io/reply_store.h"

namespace {

using namespace mesh;  // short names in a program of one file

ReplyHash hash_of(uint64_t number) { return {number * 0x9E3779B97F4A7C15ULL, ~number * 0xBF58476D1CE4E5B9ULL}; }

// In a directory of its own, on a loop that stops when everything is answered.
struct Bench final : ReplyStoreObserver {
  std::string directory;
  io::Loop loop;
  std::unique_ptr<io::LmdbReplyStore> store;
  uint64_t missed = 0;
  uint64_t erased = 0;

  Bench() {
    const char* base = std::getenv("TMPDIR");
    directory = std::string(base != nullptr ? base : "/tmp") + "/mesh-reply-bench-XXXXXX";
    if (mkdtemp(directory.data()) == nullptr) std::abort();
    open();
  }
  ~Bench() override {
    store.reset();
    std::system(("rm -r " + directory).c_str());
  }
  void open() {
    store.reset();
    store = loop.open_reply_store(directory, 2ULL << 30);
    store->set_observer(this);
    loop.run();
  }
  void on_loaded(uint64_t, std::optional<StoredReply> reply) override { missed += reply ? 0 : 1; }
  void on_erased(uint64_t) override { ++erased; }
  // No two values are equal, or they would share a file.
  void put(uint64_t number, size_t bytes, const std::vector<uint64_t>& names) {
    std::string value(bytes, 'v');
    value.replace(0, 20, std::to_string(number) + std::string(20 - std::to_string(number).size(), '.'));
    store->put(hash_of(number), Slice::copy_of(value), {.cost_us = 1000, .ttl_ms = 3'600'000, .names = names});
  }
  void fill(uint64_t count, size_t bytes) {
    for (uint64_t i = 0; i < count; ++i) {
      put(i, bytes, {i % 1000, 10'000 + i});
      if (i * bytes % (1 << 22) < bytes) loop.run();
    }
    loop.run();
  }
};

// One after the other, each in a turn of its own: what a call waits for.
void load_replies(benchmark::State& state) {
  Bench bench;
  const auto bytes = static_cast<size_t>(state.range(0));
  const uint64_t count = bytes > 100'000 ? 64 : 1024;
  bench.fill(count, bytes);
  uint64_t next = 0;
  for (auto _ : state) {
    bench.store->load(next, hash_of(next * 7919 % count));
    ++next;
    bench.loop.run();
  }
  if (bench.missed > 0) state.SkipWithError("a load missed");
  state.SetBytesProcessed(static_cast<int64_t>(next * bytes));
}

// Eight in a turn, until they are committed.
void put_replies(benchmark::State& state) {
  Bench bench;
  const auto bytes = static_cast<size_t>(state.range(0));
  constexpr uint64_t kTurn = 8;
  uint64_t next = 0;
  for (auto _ : state) {
    for (uint64_t i = 0; i < kTurn; ++i, ++next) bench.put(next, bytes, {next % 1000, 10'000 + next});
    bench.loop.run();
  }
  if (bench.store->stats().refused > 0) state.SkipWithError("a put was refused");
  state.SetItemsProcessed(static_cast<int64_t>(next));
  state.counters["evicted"] = static_cast<double>(bench.store->stats().evicted);
}

// A tag that one of 1000 entries carries, until it is durable.
void erase_tag(benchmark::State& state) {
  Bench bench;
  const auto count = static_cast<uint64_t>(state.range(0));
  bench.fill(count, 1000);
  uint64_t tag = 0;
  for (auto _ : state) {
    bench.store->erase(tag, std::vector<uint64_t>{tag % 1000});
    ++tag;
    bench.loop.run();
  }
  if (tag > 1000) state.SkipWithError("nothing was left to erase");
}

// With a check of the whole index.
void open_store(benchmark::State& state) {
  Bench bench;
  bench.fill(static_cast<uint64_t>(state.range(0)), 1000);
  for (auto _ : state) bench.open();
}

BENCHMARK(load_replies)->ArgName("bytes")->Arg(1 << 10)->Arg(1 << 16)->Arg(1 << 20)->UseRealTime();
BENCHMARK(put_replies)->ArgName("bytes")->Arg(1 << 10)->Arg(1 << 16)->Arg(1 << 20)->UseRealTime();
BENCHMARK(erase_tag)->ArgName("entries")->Arg(1000)->Arg(100'000)->Iterations(100)->UseRealTime();
BENCHMARK(open_store)->ArgName("entries")->Arg(1000)->Arg(100'000)->UseRealTime()->Unit(benchmark::kMillisecond);

}  // namespace

BENCHMARK_MAIN();
