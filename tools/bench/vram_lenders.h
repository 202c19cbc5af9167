// Who lends a GPU's memory to models: pools as they are usual, and the arbiter.
#pragma once

#include "tools/bench/vram_replay.h"

namespace mesh::bench {

enum class VramLender {
  kHardPools,       // 256 MiB, 1 GiB and 4 GiB, a model in the smallest that its size allows
  kStretchedPools,  // likewise, and as large as the card allows
  kCountLru,        // as many models as fit on average, the least recently used goes
  kByteLru,         // as many bytes as there are, likewise
  kArbiter,         // the real engine, an agent for each model, and placement among hosts
};
constexpr VramLender kVramLenders[] = {VramLender::kHardPools, VramLender::kStretchedPools, VramLender::kCountLru,
                                       VramLender::kByteLru, VramLender::kArbiter};
const char* name_of(VramLender lender);

// Pools take a model where it is, or is about to be, else where most of its pool is free.
VramOutcome replay(VramLender lender, const VramTrace& trace, const VramTerms& terms);

}  // namespace mesh::bench
