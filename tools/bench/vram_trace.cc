#include "tools/bench/vram_trace.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

#include "common/base/prng.h"

namespace mesh::bench {
namespace {

constexpr size_t kModelsPerCard = 28;
constexpr double kSkew = 0.9;
constexpr double kPauseMax_ms = 700;  // between two requests, on a card of 12 GiB
constexpr size_t kModelsMax = 10'000;

std::vector<VramModel> made_models(Prng& prng, size_t count, bool has_xl) {
  const gpu::Units largest_of[] = {128, 128, 512, 512, 2048, has_xl ? 3072 : 128};
  std::vector<VramModel> made(count);
  for (VramModel& model : made) {
    const gpu::Units largest = largest_of[prng.below(has_xl ? 6 : 5)];
    model.units = largest / 2 + static_cast<gpu::Units>(prng.below(static_cast<uint64_t>(largest / 2)));
    model.load = milliseconds(300 + model.units * 2 * 1000 / 1024 / 2);  // 2 GiB a second
  }
  return made;
}

}  // namespace

VramTrace made_trace(const VramShape& shape) {
  Prng prng(shape.seed);
  const auto count = static_cast<size_t>(std::lround(kModelsPerCard * shape.scale));
  VramTrace trace{made_models(prng, count, shape.has_xl), {}};
  std::vector<double> sums;
  for (size_t i = 0; i < count; ++i) {
    sums.push_back((sums.empty() ? 0 : sums.back()) + 1 / std::pow(static_cast<double>(i + 1), kSkew));
  }
  Duration at{};
  const auto pause_us = static_cast<uint64_t>(1000 * kPauseMax_ms / shape.scale);
  for (size_t i = 0; i < shape.uses; ++i) {
    const double drawn = static_cast<double>(prng.below(1'000'000)) / 1e6 * sums.back();
    auto model = static_cast<size_t>(std::lower_bound(sums.begin(), sums.end(), drawn) - sums.begin());
    if (shape.is_shifting) model = (model + i * 10 / shape.uses * 7) % count;
    const Duration hold = milliseconds(100 + static_cast<int64_t>(prng.below(1900)));
    trace.uses.push_back({at, model, hold, prng.below(shape.hosts)});
    at += std::chrono::microseconds(prng.below(pause_us));
  }
  return trace;
}

VramTrace read_vram_trace(std::istream& lines, size_t hosts) {
  VramTrace trace;
  int64_t at_ms = 0;
  int64_t load_ms = 0;
  int64_t hold_ms = 0;
  gpu::Units units = 0;
  for (VramUse use; lines >> at_ms >> use.model >> units >> load_ms >> hold_ms >> use.host;) {
    const std::string number = "request " + std::to_string(trace.uses.size() + 1) + ": ";
    if (use.model >= kModelsMax) throw std::invalid_argument(number + "more than 10000 models");
    if (units <= 0 || load_ms < 0 || hold_ms < 0) throw std::invalid_argument(number + "a size or a time is negative");
    use.at = milliseconds(at_ms);
    use.hold = milliseconds(hold_ms);
    use.host %= hosts;
    if (use.at < (trace.uses.empty() ? Duration{} : trace.uses.back().at)) {
      throw std::invalid_argument(number + "it is earlier than the one before");
    }
    if (trace.models.size() <= use.model) trace.models.resize(use.model + 1, {1, {}});
    trace.models[use.model] = {units, milliseconds(load_ms)};
    trace.uses.push_back(use);
  }
  if (!lines.eof()) throw std::invalid_argument("request " + std::to_string(trace.uses.size() + 1) + " is none");
  if (trace.uses.empty()) throw std::invalid_argument("there is no request in it");
  return trace;
}

}  // namespace mesh::bench
