// Which of several homes a key has: the same for everybody who knows the same homes.
//
// Every home shouts a number for the key, and the loudest has it. When a home comes or goes only its own keys move.
// (Thaler and Ravishankar, "Using name-based mappings to increase hit rates", 1998.)
#pragma once

#include <cstdint>

namespace mesh::routing {

// How loud the home shouts for the key; both are digests of names.
inline uint64_t rendezvous_weight(uint64_t key, uint64_t home) {
  // The finalizer of MurmurHash3: each bit of the input changes half of the output's.
  uint64_t mixed = key ^ (home * 0x9E3779B97F4A7C15);
  mixed ^= mixed >> 33;
  mixed *= 0xFF51AFD7ED558CCD;
  mixed ^= mixed >> 33;
  mixed *= 0xC4CEB9FE1A85EC53;
  return mixed ^ mixed >> 33;
}

}  // namespace mesh::routing
