// What the engine is told of memory for models, and what it asks for; see ModelLeases.
#pragma once

#include <cstdint>
#include <string_view>

#include "common/base/code.h"
#include "common/base/model_order.h"

namespace mesh::proxy {

// Of the models that contracts name.
using ModelIndex = uint32_t;

// --- events ---

struct ModelGranted {
  ModelIndex model;
};
struct ModelQueued {
  ModelIndex model;
};
struct ModelRefused {
  ModelIndex model;
  Code code;
  std::string_view reason;  // lives as long as the event
};
struct ModelRecalled {
  ModelIndex model;
};
struct ModelLost {
  ModelIndex model;
};

// --- actions ---

// Asked again, it takes the place of what was asked before and given back.
struct AskModel {
  ModelIndex model;
  ModelOrder order;
};
struct NoteModelUse {
  ModelIndex model;
  bool is_used;
};
// Its agent has worked with it: the memory is in use from now on, and may be asked back.
struct NoteModelLoaded {
  ModelIndex model;
};
struct ReturnModel {
  ModelIndex model;
};

}  // namespace mesh::proxy
