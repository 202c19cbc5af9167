// Who wants which model when: requests for models that live in the memory of GPUs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <istream>
#include <string_view>
#include <vector>

#include "common/base/instant.h"
#include "common/gpu/units.h"

namespace mesh::bench {

struct VramModel {
  gpu::Units units = 0;
  Duration load{};  // from where it is kept into a GPU
};
struct VramUse {
  Duration at{};  // since the beginning; each no earlier than the one before
  size_t model = 0;
  Duration hold{};  // how long it is computed with
  size_t host = 0;  // at which it is asked for
};
struct VramTrace {
  std::vector<VramModel> models;
  std::vector<VramUse> uses;
};

struct VramShape {
  uint64_t seed = 1;
  size_t uses = 20'000;
  size_t hosts = 1;
  // In cards of 12 GiB: with it grow the models and how often they are asked for.
  double scale = 1;
  bool has_xl = false;       // some models are above 4 GiB
  bool is_shifting = false;  // which are liked changes, ten times
};
// Small ones for speech and embeddings, some large ones for language; the popular ones are of all sizes.
VramTrace made_trace(const VramShape& shape);

// Of each request a line: AT_MS MODEL UNITS LOAD_MS HOLD_MS HOST, models by number. Throws std::invalid_argument.
VramTrace read_vram_trace(std::istream& lines, size_t hosts);

}  // namespace mesh::bench
