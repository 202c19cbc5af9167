// Which faults come over a simulated mesh, and when: drawn from a seed, and few enough to be named and left out.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/instant.h"

namespace mesh::sim {

struct Fault {
  enum class Kind : uint8_t {
    kDelay,          // amount_ms on the way, with jitter
    kReset,          // of one link, at any byte
    kAgentReset,     // of one connection to an agent, at any byte
    kCallerReset,    // of one connection of a caller, at any byte
    kPartition,      // both ways
    kOneWay,         // only from the callers' host
    kOneWayBack,     // only to it
    kCrashSidecar,   // kill -9, and started again
    kCrashAgent,     // likewise
    kPowerCut,       // of the agents' host: nobody is told
    kPauseSidecar,   // SIGSTOP
    kPauseAgent,     //
    kStuckAgent,     // takes requests and never answers those
    kSlowAgent,      // takes amount_ms for each
    kSlowReader,     // a caller that does not read
    kDrift,          // a host's clock runs faster or slower by up to 5 %
    kNarrow,         // streams take few bytes
    kDrain,          // SIGTERM, and started again
    kDiskFull,       // of a sidecar: nothing more can be written down
    kCrashLoop,      // of the callers' sidecar, every amount_ms while agents take as long; no other host is told
    kRestartAgents,  // of those that compute with models, and soon, as somebody who watches them does
    kCrashArbiter,   // of the agents' hosts: kill -9, and started again
    kWallClock,      // somebody sets a host's clock, by amount_ms; nothing may depend on it
    kCount,
  };
  Kind kind = Kind::kDelay;
  Duration at{0};      // since the start
  Duration lasts{0};   // until it is taken back
  int64_t amount = 0;  // by kind
  uint64_t which = 0;  // of several
};
std::string_view to_string(Fault::Kind kind);
// As a line of a trace.
std::string to_string(const Fault& fault);

// How long faults may begin.
inline constexpr Duration kFaultySpan = milliseconds(15'000);

// The same for the same seed. Some seeds have none.
std::vector<Fault> draw_faults(uint64_t seed);

}  // namespace mesh::sim
