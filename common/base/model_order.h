// What is asked of a host's GPU arbiter for a model.
#pragma once

#include <cstdint>
#include <string>

#include "common/base/priority.h"

namespace mesh {

struct ModelOrder {
  std::string model;
  uint64_t bytes = 0;
  Priority priority = Priority::kNormal;
  int64_t hold_ms = 0;  // for how long, about
  int64_t load_ms = 0;  // what it takes to load it; 0: unknown
  uint32_t pid = 0;     // who will use the memory; 0: not known
};

}  // namespace mesh
