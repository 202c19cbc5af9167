#include "tests/sim/plan.h"

#include <algorithm>
#include <array>

#include "common/base/prng.h"

namespace mesh::sim {
namespace {

constexpr uint64_t kFaultsMax = 8;

int64_t between(Prng& prng, int64_t low, int64_t high) {
  return low + static_cast<int64_t>(prng.below(static_cast<uint64_t>(high - low + 1)));
}

int64_t lasts_ms(Fault::Kind kind, Prng& prng) {
  switch (kind) {
    case Fault::Kind::kReset:
    case Fault::Kind::kAgentReset:
    case Fault::Kind::kCallerReset:
    case Fault::Kind::kWallClock:
      return 0;
    case Fault::Kind::kCrashLoop:
      return between(prng, 500, 6000);
    case Fault::Kind::kRestartAgents:
      return between(prng, 1, 700);
    case Fault::Kind::kPauseSidecar:
    case Fault::Kind::kPauseAgent:
      return prng.below(8) == 0 ? between(prng, 5000, 30'000) : between(prng, 10, 5000);
    default:
      return prng.below(4) == 0 ? between(prng, 3000, 15'000) : between(prng, 1, 3000);
  }
}

int64_t amount_of(Fault::Kind kind, Prng& prng) {
  switch (kind) {
    case Fault::Kind::kDelay:
      return between(prng, 1, 200);
    case Fault::Kind::kSlowAgent:
      return between(prng, 5, 2000);
    case Fault::Kind::kDrift:
      return between(prng, -50'000, 50'000);
    case Fault::Kind::kNarrow:
      return between(prng, 1, 8192);
    case Fault::Kind::kCrashLoop:
      return between(prng, 100, 2000);
    case Fault::Kind::kWallClock:
      return between(prng, -3'600'000, 3'600'000);
    default:
      return 0;
  }
}

}  // namespace

std::string_view to_string(Fault::Kind kind) {
  constexpr std::array<std::string_view, static_cast<size_t>(Fault::Kind::kCount)> names = {
      "delay",        "reset",         "agent reset",    "caller reset",  "partition",     "one way",
      "one way back", "crash sidecar", "crash agent",    "power cut",     "pause sidecar", "pause agent",
      "stuck agent",  "slow agent",    "slow reader",    "drift",         "narrow",        "drain",
      "disk full",    "crash loop",    "restart agents", "crash arbiter", "wall clock"};
  return names.at(static_cast<size_t>(kind));
}

std::string to_string(const Fault& fault) {
  return std::string(to_string(fault.kind)) + " #" + std::to_string(fault.which % 100) + " amount " +
         std::to_string(fault.amount) + " for " + std::to_string(to_us(fault.lasts) / 1000) + " ms";
}

std::vector<Fault> draw_faults(uint64_t seed) {
  Prng prng(seed * 2 + 1);
  std::vector<Fault> faults(prng.below(kFaultsMax + 1));
  const bool is_peaceful = prng.below(16) == 0;  // nothing but processes that are told to go
  for (Fault& fault : faults) {
    fault.kind = static_cast<Fault::Kind>(prng.below(static_cast<uint64_t>(Fault::Kind::kCount)));
    if (is_peaceful) fault.kind = Fault::Kind::kDrain;
    fault.at = microseconds(static_cast<int64_t>(prng.below(static_cast<uint64_t>(to_us(kFaultySpan)))));
    fault.lasts = milliseconds(lasts_ms(fault.kind, prng));
    fault.amount = amount_of(fault.kind, prng);
    fault.which = prng.next();
  }
  std::sort(faults.begin(), faults.end(), [](const Fault& a, const Fault& b) { return a.at < b.at; });
  return faults;
}

}  // namespace mesh::sim
