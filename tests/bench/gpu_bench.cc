// What the GPU arbiter's decisions cost: victims among 64 leases, a grant and its return beside 64 others, and a whole
// reclaim of one of them.
#include <benchmark/benchmark.h>

#include "common/base/prng.h"
#include "common/gpu/reclaim.h"
#include "sidecar/arbiter/engine.h"

namespace mesh::arbiter {
namespace {

const Instant kNow{milliseconds(1'000'000)};
constexpr Units kCard = gpu::units_of(24 * gpu::kGiB);

gpu::Request request(Units units) {
  gpu::Request made;
  made.min = made.want = units;
  return made;
}

// An engine with so many idle leases on one card, and what it would say thrown away.
struct Bench {
  explicit Bench(uint64_t leases, Units each)
      : engine({{{{0, 1}, {kCard, 0, gpu::bounds::emergency_units}, {}}}, false}) {
    engine.begin({}, kNow, out);
    engine.on(GpuSampled{}, kNow, out);
    for (uint64_t i = 1; i <= leases; ++i) hold(i, each);
  }
  void hold(uint64_t number, Units units) {
    engine.on(LeaseAsked{number, number, {1, number}, request(units), {}}, kNow, out);
    engine.on(LeaseCommitted{{number, number, {1, number}, engine.epoch()}, units, {}}, kNow, out);
    out.clear();
  }
  LeaseName name(uint64_t number) const { return {number, number, {1, number}, engine.epoch()}; }

  Actions out;
  Engine engine;
};

void BM_victims_of_64(benchmark::State& state) {
  Prng prng(1);
  std::vector<gpu::Candidate> all;
  Units sum = 0;
  for (uint64_t i = 0; i < 64; ++i) {
    const auto units = static_cast<Units>(1 + prng.below(400));
    all.push_back({{1, i}, units, gpu::class_of(units), static_cast<double>(prng.below(1000)), false});
    sum += units;
  }
  const gpu::ClassUnits all_of_them = {sum, sum, sum, sum};
  for (auto _ : state) {
    const auto need = static_cast<Units>(1 + prng.below(static_cast<uint64_t>(sum)));
    benchmark::DoNotOptimize(gpu::choose_victims(need, all, all_of_them));
  }
}
BENCHMARK(BM_victims_of_64);

void BM_grant_and_return(benchmark::State& state) {
  Bench bench(static_cast<uint64_t>(state.range(0)), 100);
  uint64_t number = 10'000;
  for (auto _ : state) {
    ++number;
    bench.engine.on(LeaseAsked{number, number, {1, number}, request(100), {}}, kNow, bench.out);
    bench.engine.on(LeaseReleased{bench.name(number)}, kNow, bench.out);
    benchmark::DoNotOptimize(bench.out.data());
    bench.out.clear();
  }
}
BENCHMARK(BM_grant_and_return)->Arg(0)->Arg(16)->Arg(64);

// One asks, another is asked to yield, does so, and the first is granted; then the card is as it was.
void BM_reclaim_one_of_64(benchmark::State& state) {
  const Units each = (kCard - gpu::bounds::emergency_units) / 64;
  Bench bench(64, each);
  uint64_t number = 10'000;
  Instant now = kNow;  // goes on: no more than a card a minute is swapped
  for (auto _ : state) {
    ++number;
    now += milliseconds(2000);
    bench.engine.on(LeaseAsked{number, number, {1, number}, request(each), {}}, now, bench.out);
    LeaseId victim{};
    for (const Action& action : bench.out) {
      if (const auto* asked = std::get_if<AskYield>(&action)) victim = asked->id;
    }
    bench.engine.on(YieldDone{bench.name(victim.low), each, {}}, now, bench.out);
    bench.engine.on(LeaseCommitted{bench.name(number), each, {}}, now, bench.out);
    bench.out.clear();
    if (victim.low == 0) state.SkipWithError("nobody was asked");
  }
}
BENCHMARK(BM_reclaim_one_of_64);

}  // namespace
}  // namespace mesh::arbiter

BENCHMARK_MAIN();
