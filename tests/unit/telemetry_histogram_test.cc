#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "common/base/prng.h"
#include "common/telemetry/histogram.h"

namespace mesh::telemetry {
namespace {

constexpr double kShares[] = {0, 0.001, 0.01, 0.07, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 0.9999, 1};

// The oracle: the value of rank ⌈q × count⌉ in all of them, sorted.
uint64_t exact_quantile(const std::vector<uint64_t>& sorted, double q) {
  const auto wanted = std::ceil(q * static_cast<double>(sorted.size()) - 1e-9);
  const size_t rank = std::clamp<size_t>(static_cast<size_t>(std::max(wanted, 1.0)), 1, sorted.size());
  return sorted[rank - 1];
}

bool within_one_percent(uint64_t told, uint64_t exact) {
  const uint64_t off = told > exact ? told - exact : exact - told;
  return static_cast<double>(off) <= 0.01 * static_cast<double>(exact);
}

double unit(Prng& prng) { return static_cast<double>(prng.next() >> 11) / 9007199254740992.0; }

using Draw = std::function<uint64_t(Prng&)>;
const std::vector<std::pair<std::string, Draw>>& distributions() {
  static const std::vector<std::pair<std::string, Draw>> all = {
      {"uniform, small", [](Prng& p) { return p.below(300); }},
      {"uniform, the whole range", [](Prng& p) { return p.below(Histogram::kValueMax + 1); }},
      {"log-uniform", [](Prng& p) { return static_cast<uint64_t>(std::exp2(36 * unit(p))) - 1; }},
      {"exponential", [](Prng& p) { return static_cast<uint64_t>(-2000 * std::log(1 - unit(p))); }},
      {"pareto", [](Prng& p) { return static_cast<uint64_t>(80 / std::pow(1 - unit(p), 1.3)) % (1ULL << 36); }},
      {"constant", [](Prng&) { return uint64_t{123457}; }},
      {"two humps", [](Prng& p) { return p.below(10) == 0 ? 250'000 + p.below(1000) : 90 + p.below(30); }},
      {"powers of two and neighbours", [](Prng& p) { return (1ULL << p.below(36)) + p.below(3) - 1; }},
  };
  return all;
}

TEST_CASE("every quantile is within 1 % of the sorted values, whatever they look like") {
  for (const auto& [name, draw] : distributions()) {
    for (const size_t size : {1, 2, 7, 100, 20'000}) {
      CAPTURE(name);
      CAPTURE(size);
      Prng prng(size * 31 + name.size());
      Histogram histogram;
      std::vector<uint64_t> values(size);
      uint64_t sum = 0;
      for (uint64_t& value : values) {
        value = draw(prng);
        sum += value;
        histogram.record(value);
      }
      std::sort(values.begin(), values.end());
      for (const double q : kShares) {
        CAPTURE(q);
        const uint64_t exact = exact_quantile(values, q);
        CAPTURE(exact);
        CHECK(within_one_percent(histogram.quantile(q), exact));
      }
      CHECK(histogram.count() == size);
      CHECK(histogram.sum() == sum);
      CHECK(histogram.max() == values.back());
    }
  }
}

TEST_CASE("every single value up to a million comes back within 1 %, and exactly below 128") {
  size_t wrong = 0;
  for (uint64_t value = 0; value < 1'000'000; value += value < 5000 ? 1 : 37) {
    Histogram histogram;
    histogram.record(value);
    histogram.record(Histogram::kValueMax);  // so that max() does not help
    const uint64_t told = histogram.quantile(0.5);
    if (value < 128 ? told != value : !within_one_percent(told, value)) ++wrong;
  }
  CHECK(wrong == 0);
}

TEST_CASE("every mark stands for a value that is counted at that mark, and marks rise with their values") {
  uint64_t last = 0;
  size_t mark = 0;
  for (; Histogram().add(mark, 1); ++mark) {
    const uint64_t value = Histogram::value_of(mark);
    REQUIRE((mark == 0 || value > last));
    last = value;
    Histogram histogram;
    histogram.record(value);
    histogram.for_each([&](size_t at, uint64_t count) {
      REQUIRE(at == mark);
      REQUIRE(count == 1);
    });
  }
  CHECK(mark == 1984);
  CHECK(within_one_percent(last, Histogram::kValueMax));
}

TEST_CASE("a value beyond the range counts as the largest, and the rest is not hurt") {
  Histogram histogram;
  histogram.record(std::numeric_limits<uint64_t>::max());
  histogram.record(10);
  CHECK(histogram.count() == 2);
  CHECK(histogram.max() == Histogram::kValueMax);
  CHECK(histogram.sum() == Histogram::kValueMax + 10);
  CHECK(histogram.quantile(0.5) == 10);
  CHECK(within_one_percent(histogram.quantile(1), Histogram::kValueMax));
}

TEST_CASE("an empty histogram answers 0, and shares outside 0 to 1 count as the nearer of them") {
  Histogram histogram;
  CHECK(histogram.quantile(0.5) == 0);
  CHECK(histogram.max() == 0);
  histogram.for_each([](size_t, uint64_t) { FAIL("it has a mark"); });
  histogram.record(5);
  histogram.record(50);
  CHECK(histogram.quantile(-3) == 5);
  CHECK(histogram.quantile(7) == 50);
  CHECK(histogram.quantile(std::nan("")) == 5);
}

TEST_CASE("merging parts is the same as recording all in one") {
  for (const auto& [name, draw] : distributions()) {
    CAPTURE(name);
    Prng prng(7);
    Histogram whole;
    Histogram parts[3];
    for (int i = 0; i < 5000; ++i) {
      const uint64_t value = draw(prng);
      whole.record(value);
      parts[prng.below(2)].record(value);  // the third stays empty
    }
    Histogram merged;
    for (const Histogram& part : parts) merged.merge(part);
    for (const double q : kShares) CHECK(merged.quantile(q) == whole.quantile(q));
    CHECK(merged.count() == whole.count());
    CHECK(merged.sum() == whole.sum());
    CHECK(merged.max() == whole.max());
  }
}

TEST_CASE("what was recorded after a copy was made is the difference to it") {
  for (const auto& [name, draw] : distributions()) {
    CAPTURE(name);
    Prng prng(11);
    Histogram running;
    for (int i = 0; i < 3000; ++i) running.record(draw(prng));
    const Histogram earlier = running;
    std::vector<uint64_t> later;
    for (int i = 0; i < 700; ++i) {
      later.push_back(draw(prng));
      running.record(later.back());
    }
    std::sort(later.begin(), later.end());
    const Histogram difference = running.since(earlier);
    CHECK(difference.count() == 700);
    CHECK(difference.sum() == running.sum() - earlier.sum());
    CHECK(difference.max() >= later.back());
    CHECK(static_cast<double>(difference.max()) <= static_cast<double>(later.back()) * (1 + 1.0 / 64));
    for (const double q : kShares) CHECK(within_one_percent(difference.quantile(q), exact_quantile(later, q)));
  }
}

TEST_CASE("the difference to oneself and to an empty one is nothing and everything") {
  Histogram histogram;
  histogram.record(400);
  CHECK(histogram.since(histogram).count() == 0);
  CHECK(histogram.since(histogram).max() == 0);
  CHECK(histogram.since(Histogram()).count() == 1);
  CHECK(Histogram().since(Histogram()).count() == 0);
}

TEST_CASE("after a restart of who records, all it has is new, even if it has more by now or nothing yet") {
  Histogram before;
  for (int i = 0; i < 10; ++i) before.record(100);
  Histogram restarted;
  for (int i = 0; i < 30; ++i) restarted.record(5000);
  CHECK(restarted.since(before).count() == 30);
  const Histogram nothing_yet = Histogram().since(before);
  CHECK(nothing_yet.count() == 0);
  CHECK(nothing_yet.sum() == 0);
  Histogram sum;
  sum.merge(nothing_yet);
  CHECK(sum.count() == 0);
}

TEST_CASE("marks and totals that travelled give the same histogram again") {
  for (const auto& [name, draw] : distributions()) {
    CAPTURE(name);
    Prng prng(13);
    Histogram original;
    for (int i = 0; i < 2000; ++i) original.record(draw(prng));
    Histogram rebuilt;
    original.for_each([&](size_t mark, uint64_t count) { CHECK(rebuilt.add(mark, count)); });
    CHECK(rebuilt.count() == original.count());
    CHECK(within_one_percent(rebuilt.sum(), original.sum()));
    rebuilt.set_totals(original.sum(), original.max());
    CHECK(rebuilt.sum() == original.sum());
    CHECK(rebuilt.max() == original.max());
    for (const double q : kShares) CHECK(rebuilt.quantile(q) == original.quantile(q));
  }
}

TEST_CASE("a mark that does not exist is refused and changes nothing") {
  Histogram histogram;
  CHECK_FALSE(histogram.add(1984, 5));
  CHECK_FALSE(histogram.add(std::numeric_limits<uint64_t>::max(), 5));
  CHECK(histogram.count() == 0);
  CHECK(histogram.add(1983, 5));
  CHECK(histogram.count() == 5);
}

}  // namespace
}  // namespace mesh::telemetry
