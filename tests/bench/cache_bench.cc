// What a hit costs inside the sidecar: the key of a JSON body of so many bytes, and the look into memory. And what room
// costs where there is none, and what it costs to know how much room would be good.
#include <benchmark/benchmark.h>

#include <string>

#include "common/base/prng.h"
#include "common/cache/memory_tier.h"
#include "common/cache/miss_ratio_curve.h"
#include "common/cache/request.h"

namespace {

using namespace mesh;
using namespace mesh::cache;

const Instant kNow{milliseconds(1'000'000)};

// As agents write: some short fields and a long text, and what is new in each attempt.
std::string body_of(size_t bytes, uint64_t number) {
  std::string body =
      R"({"action": "translate", "source_lang": "en", "target_lang": "es", "options": {"formal": true, "beam": 4},)"
      R"( "request_id": "7c9e6679-7425-40de-944b-e07fc1f90ae7", "timestamp": 1732406400.123, "n": )" +
      std::to_string(number) + R"(, "text": ")";
  while (body.size() + 2 < bytes) body += "the quick brown fox ";
  return body + "\"}";
}

Kept kept_for(const Key& key, size_t bytes) {
  Kept kept;
  kept.key = key;
  kept.body = Slice::copy_of(std::string(bytes, 'y'));
  kept.fresh_until = kept.revalidate_until = kept.error_until = kNow + milliseconds(1000);
  kept.cost_us = 1000;
  return kept;
}

void key_and_hit(benchmark::State& state) {
  RequestReader reader;
  MemoryTier tier(100 << 20);
  const Purges purges;
  const contract::CacheTerms terms;
  const std::string body = body_of(static_cast<size_t>(state.range(0)), 1);
  const Asked asked{"translation", "translate", "", as_bytes(body), {}};
  tier.put(kept_for(reader.read(asked, terms).key, 1000), kNow);
  for (auto _ : state) {
    const Request request = reader.read(asked, terms);
    const Kept* kept = tier.find(request.key, purges, kNow);
    if (kept == nullptr) state.SkipWithError("a miss");
    benchmark::DoNotOptimize(kept);
  }
}
BENCHMARK(key_and_hit)->Arg(200)->Arg(1024)->Arg(16 << 10)->Arg(200 << 10);

void put_in_full_memory(benchmark::State& state) {
  MemoryTier tier(16 << 20);
  Prng prng(1);
  const Slice text = Slice::copy_of(std::string(200, 'k'));
  for (auto _ : state) {
    const uint64_t number = prng.next();
    tier.put(kept_for({{number, number}, text}, 1000), kNow);
  }
  state.counters["held_MB"] = static_cast<double>(tier.held_bytes()) / 1e6;
}
BENCHMARK(put_in_full_memory);

// So many keys are asked for, all alike: of 1000 all are looked at, of ten million few.
void curve_access(benchmark::State& state) {
  MissRatioCurve curve(uint64_t{1} << 40);
  Prng prng(1);
  const auto keys = static_cast<uint64_t>(state.range(0));
  const auto access = [&] { curve.on_access(prng.below(keys) * 0xD6E8FEB86659FD93, 1000); };
  for (uint64_t i = 0; i < 3 * keys; ++i) access();
  for (auto _ : state) access();
  state.counters["sampled"] = curve.sampling_rate();
}
BENCHMARK(curve_access)->Arg(1000)->Arg(100'000)->Arg(10'000'000);

}  // namespace

BENCHMARK_MAIN();
