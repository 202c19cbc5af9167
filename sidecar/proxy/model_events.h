// What the engine is told of memory for models, and what it asks for; see ModelLeases.
#pragma once

#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "common/base/code.h"
#include "common/base/model_order.h"
#include "common/wire/envelope.h"

namespace mesh::proxy {

// Of the models that contracts name.
using ModelIndex = uint32_t;
// Of a service of this sidecar's agents and a model that it computes with.
using StandingIndex = uint32_t;
inline constexpr StandingIndex kNoStanding = UINT32_MAX;

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

// The arbiter's word on how soon a model could be used here, if its memory were asked for now.
struct ModelOutlook {
  wire::ModelPlace place = wire::ModelPlace::kUnknown;
  bool never_fits = false;
  uint32_t usable_in_ms = UINT32_MAX;  // that: nobody can say
  uint32_t pressure = 0;               // as in wire::Standing
  uint32_t band = 0;
};
struct ModelLookedAt {
  ModelIndex model;
  ModelOutlook outlook;
};

struct PeerStood {                               // it said how soon it answers
  uint32_t peer;                                 // position in SidecarConfig::peers
  const std::vector<wire::Standing>& standings;  // live as long as the event
};

// --- actions ---

// Answered with ModelLookedAt for each, if there is an arbiter.
struct LookAtModels {
  std::vector<std::pair<ModelIndex, ModelOrder>> models;
};
// Peers that want to know are told how soon this sidecar's agents answer.
struct TellStandings {};

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
