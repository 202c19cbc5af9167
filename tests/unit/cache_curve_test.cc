#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <unordered_map>
#include <vector>

#include "common/cache/miss_ratio_curve.h"
#include "tools/bench/traces.h"

namespace mesh::cache {
namespace {

using bench::Trace;
using bench::TraceShape;

// As XXH3 does, so that neighbours do not stay neighbours.
uint64_t hash_of(uint64_t key, uint64_t seed) { return Prng(key ^ seed << 40).next(); }

// What LRU would have hit, by definition: at each request all that was asked for since, and it itself, fits.
class StackDistances {
 public:
  explicit StackDistances(const Trace& trace) : tree_(trace.size() + 1) {
    std::unordered_map<uint64_t, size_t> last;
    for (size_t i = 0; i < trace.size(); ++i) {
      const auto [at, is_new] = last.try_emplace(trace[i].key, i);
      if (!is_new) {
        distances_.push_back(sum(i) - sum(at->second));
        add(at->second, -uint64_t{trace[i].bytes});
        at->second = i;
      }
      add(i, trace[i].bytes);
    }
    accesses_ = trace.size();
    std::sort(distances_.begin(), distances_.end());
  }

  double hit_ratio(uint64_t bytes) const {
    const auto end = std::upper_bound(distances_.begin(), distances_.end(), bytes);
    return static_cast<double>(end - distances_.begin()) / static_cast<double>(accesses_);
  }

 private:
  void add(size_t at, uint64_t bytes) {
    for (++at; at < tree_.size(); at += at & -at) tree_[at] += bytes;
  }
  uint64_t sum(size_t end) const {  // of those before
    uint64_t bytes = 0;
    for (; end > 0; end -= end & -end) bytes += tree_[end];
    return bytes;
  }

  std::vector<uint64_t> tree_;
  std::vector<uint64_t> distances_;
  size_t accesses_ = 0;
};

MissRatioCurve curve_of(const Trace& trace, uint64_t bytes_max, uint64_t seed = 1) {
  MissRatioCurve curve(bytes_max);
  for (const bench::Asked& asked : trace) curve.on_access(hash_of(asked.key, seed), asked.bytes);
  return curve;
}

// The greatest difference at sizes from a quarter to four times the budget, for some choices of what is sampled.
double worst_error(const Trace& trace, uint64_t budget) {
  const StackDistances exact(trace);
  double worst = 0;
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    const MissRatioCurve curve = curve_of(trace, 4 * budget, seed);
    CHECK(curve.held_bytes() <= 256 << 10);
    for (uint64_t size = budget / 4; size <= budget * 4; size *= 2) {
      worst = std::max(worst, std::abs(curve.hit_ratio(size) - exact.hit_ratio(size)));
    }
  }
  return worst;
}

constexpr double kBound = 0.03;
const TraceShape kShape{.requests = 300'000, .keys = 100'000, .skew = 0.9};

TEST_CASE("the curve is within 3 percentage points of exact LRU where some are asked for far more often") {
  for (const double skew : {0.7, 0.9, 1.1}) {
    TraceShape shape = kShape;
    shape.skew = skew;
    CHECK(worst_error(bench::zipf(shape), 10'000'000) < kBound);
  }
  CHECK(worst_error(bench::shifted(kShape), 10'000'000) < kBound);
}

TEST_CASE("replies of 600 B to 40 KiB are within 3 percentage points, too") {
  TraceShape shape = kShape;
  shape.make = bench::varied;
  CHECK(worst_error(bench::zipf(shape), 100'000'000) < kBound);
}

TEST_CASE("what is read only once is a miss in memory of any size") {
  CHECK(worst_error(bench::scanned(kShape), 10'000'000) < kBound);
  Trace once;
  for (uint64_t key = 0; key < 300'000; ++key) once.push_back(bench::plain(key));
  CHECK(worst_error(once, 10'000'000) < kBound);
}

TEST_CASE("a loop is found in memory that is larger, and not in memory that is smaller") {
  TraceShape shape = kShape;
  for (const size_t keys : {3'000, 15'000, 30'000}) {
    shape.keys = keys;
    CHECK(worst_error(bench::looped(shape), keys * 1000 * 3 / 4) < kBound);
  }
}

TEST_CASE("few keys are counted exactly") {
  MissRatioCurve curve(1 << 20);
  CHECK(curve.hit_ratio(1 << 20) == 0);
  for (int round = 0; round < 100; ++round) {
    for (uint64_t key = 0; key < 10; ++key) curve.on_access(hash_of(key, 1), 10'000);
  }
  CHECK(curve.sampling_rate() == 1);
  CHECK(curve.samples() == 10);
  CHECK(curve.hit_ratio(90'000) == 0);
  CHECK(curve.hit_ratio(110'000) == 0.99);
}

TEST_CASE("what had run out is fetched anew in memory of any size") {
  MissRatioCurve curve(1 << 20);
  for (int round = 0; round < 100; ++round) {
    for (uint64_t key = 0; key < 10; ++key) curve.on_access(hash_of(key, 1), 1000, round % 4 == 0);
  }
  CHECK(curve.hit_ratio(1 << 20) == 0.75);
}

TEST_CASE("memory stays as it was at the start, whatever is asked for") {
  MissRatioCurve curve(uint64_t{1} << 40);
  const uint64_t held = curve.held_bytes();
  CHECK(held <= 256 << 10);
  Prng prng(7);
  for (int i = 0; i < 3'000'000; ++i) {
    curve.on_access(prng.next() % 1'000'000 * 0x2545F4914F6CDD1D, prng.next() % (9 << 20), i % 5 == 0);
    if (i % 4096 == 0) REQUIRE(curve.samples() <= 4096);
  }
  CHECK(curve.held_bytes() == held);
  CHECK(curve.sampling_rate() < 0.02);
  CHECK(curve.samples() > 2048);
}

TEST_CASE("what was long ago counts for less and less") {
  MissRatioCurve curve(1 << 20);
  for (int i = 0; i < 2'000'000; ++i) curve.on_access(hash_of(i % 10, 1), 1000);
  CHECK(curve.hit_ratio(1 << 20) > 0.99);
  for (uint64_t i = 0; i < 6'000'000; ++i) curve.on_access(hash_of(100 + i, 1), 1000);
  CHECK(curve.hit_ratio(1 << 20) < 0.15);
}

}  // namespace
}  // namespace mesh::cache
