// Which instance of a service gets a call: one on the own host before any other, then the one with the fewest in
// flight.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

namespace mesh::routing {

struct Candidate {
  uint32_t instance = 0;
  bool own_host = false;
  bool available = true;  // false: draining, or tried before
  uint32_t in_flight = 0;
};

// The index into `candidates` of the best available one; nothing if none is. Among equals the first wins.
inline std::optional<size_t> pick(std::span<const Candidate> candidates) {
  std::optional<size_t> best;
  for (size_t i = 0; i < candidates.size(); ++i) {
    const Candidate& c = candidates[i];
    if (!c.available) continue;
    if (!best) {
      best = i;
      continue;
    }
    const Candidate& b = candidates[*best];
    if (c.own_host != b.own_host ? c.own_host : c.in_flight < b.in_flight) best = i;
  }
  return best;
}

}  // namespace mesh::routing
