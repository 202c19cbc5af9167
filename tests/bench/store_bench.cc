// How long a record takes to be safe, alone and in company. The store lies in $TMPDIR, or in /tmp.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "sidecar/io/lmdb_store.h"
#include "sidecar/io/loop.h"

namespace {

using namespace mesh;  // short names in a program of one file
using Clock = std::chrono::steady_clock;

constexpr size_t kKeysMax = 4096;

RecordKey key_of(uint64_t number) {
  RecordKey key{};
  std::memcpy(key.data(), &number, sizeof(number));
  return key;
}

// Keeps so many puts in flight: whoever is stored is put anew.
struct Writer final : RecordObserver {
  io::Loop loop;
  std::unique_ptr<io::LmdbStore> store;
  Slice value;
  std::vector<Clock::time_point> asked;
  std::vector<double> latencies_us;
  uint64_t next = 0;
  uint64_t left = 0;

  void put() {
    asked.push_back(Clock::now());
    store->put(next, key_of(next % kKeysMax), {value});
    ++next;
  }
  void on_stored(uint64_t ticket, bool is_stored) override {
    if (!is_stored) std::abort();
    latencies_us.push_back(std::chrono::duration<double, std::micro>(Clock::now() - asked[ticket]).count());
    if (left == 0) return;
    --left;
    put();
  }
  void on_loaded(uint64_t, std::optional<Slice>) override {}
  double percentile(double part) {
    const auto at = latencies_us.begin() + static_cast<ptrdiff_t>(part * static_cast<double>(latencies_us.size() - 1));
    std::nth_element(latencies_us.begin(), at, latencies_us.end());
    return *at;
  }
};

void put_records(benchmark::State& state) {
  const char* base = std::getenv("TMPDIR");
  std::string directory = std::string(base != nullptr ? base : "/tmp") + "/mesh-store-bench-XXXXXX";
  if (mkdtemp(directory.data()) == nullptr) std::abort();
  {
    Writer writer;
    writer.store = std::move(*writer.loop.open_store(directory, size_t{1} << 30));
    writer.store->set_observer(&writer);
    writer.value = Slice::copy_of(std::string(static_cast<size_t>(state.range(1)), 'v'));
    constexpr uint64_t kPutsPerRound = 1024;
    for (auto _ : state) {
      const auto in_flight = static_cast<uint64_t>(state.range(0));
      writer.left = kPutsPerRound - in_flight;
      for (uint64_t i = 0; i < in_flight; ++i) writer.put();
      writer.loop.run();
    }
    const auto commits = static_cast<double>(writer.store->report().commits);
    state.SetItemsProcessed(static_cast<int64_t>(writer.next));
    state.counters["commits/s"] = benchmark::Counter(commits, benchmark::Counter::kIsRate);
    state.counters["p50_us"] = writer.percentile(0.5);
    state.counters["p99_us"] = writer.percentile(0.99);
    state.counters["max_us"] = writer.percentile(1.0);
  }
  std::system(("rm -r " + directory).c_str());
}

BENCHMARK(put_records)->ArgNames({"in_flight", "bytes"})->ArgsProduct({{1, 64}, {256, 65536}})->UseRealTime();

}  // namespace

BENCHMARK_MAIN();
