#include "tools/bench/traces.h"

#include <algorithm>
#include <cmath>
#include <unordered_set>

namespace mesh::bench {
namespace {

uint64_t mixed(uint64_t key) { return (key + 1) * 0x9E3779B97F4A7C15 >> 20; }

}  // namespace

Zipf::Zipf(size_t keys, double skew) {
  double sum = 0;
  for (size_t i = 1; i <= keys; ++i) sums_.push_back(sum += 1 / std::pow(static_cast<double>(i), skew));
}

uint64_t Zipf::draw(Prng& prng) const {
  const double at = static_cast<double>(prng.next() >> 11) / 9007199254740992.0 * sums_.back();
  return static_cast<uint64_t>(std::lower_bound(sums_.begin(), sums_.end(), at) - sums_.begin());
}

Asked plain(uint64_t key) { return {key, 1000, 10'000}; }

Asked varied(uint64_t key) {
  const double size = static_cast<double>(mixed(key) % 1000) / 1000;
  const double cost = static_cast<double>(mixed(key * 7 + 3) % 1000) / 1000;
  return {key, static_cast<uint32_t>(600 * std::pow(65, size)), static_cast<int64_t>(1000 * std::pow(2000, cost))};
}

Trace zipf(const TraceShape& shape) {
  Prng prng(shape.seed);
  const Zipf keys(shape.keys, shape.skew);
  Trace trace;
  for (size_t i = 0; i < shape.requests; ++i) trace.push_back(shape.make(keys.draw(prng)));
  return trace;
}

Trace scanned(const TraceShape& shape) {
  Trace trace = zipf(shape);
  for (size_t i = 0; i < trace.size(); i += 10) trace[i] = shape.make(100 * shape.keys + i);
  return trace;
}

Trace looped(const TraceShape& shape) {
  Trace trace;
  for (size_t i = 0; i < shape.requests; ++i) trace.push_back(shape.make(i % shape.keys));
  return trace;
}

Trace shifted(const TraceShape& shape) {
  Trace trace = zipf(shape);
  for (size_t i = 0; i < trace.size(); ++i) trace[i].key += i * 10 / trace.size() * shape.keys;
  return trace;
}

double duplicate_share(const Trace& trace) {
  std::unordered_set<uint64_t> keys;
  for (const Asked& asked : trace) keys.insert(asked.key);
  return trace.empty() ? 0 : 1 - static_cast<double>(keys.size()) / static_cast<double>(trace.size());
}

}  // namespace mesh::bench
