// Which instance of a service answers a call of a method that computes with a model: the one from which the answer
// comes soonest.
//
// Everything counts in seconds, so there is nothing to weigh: a queue is the time until an agent is free, a model that
// is not there is the time to make room for it and to load it. What is used stays where it is until another place is
// better by more than predictions err: a model that is loaded on two hosts has pushed out two others. And what is
// coming somewhere is not loaded once more for less than what that takes.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

namespace mesh::routing {

// Of one instance, as far as it is known.
struct Prospect {
  bool available = true;
  bool own_host = false;
  bool is_coming = false;  // the model is being loaded, or waits for memory, there
  double wait_s = 0;       // until an agent is free
  double load_s = 0;       // until the model can be used
  double way_s = 0;        // there and back
  double serve_s = 0;      // with the model loaded
};

inline constexpr double kSoonestGainMin = 0.15;
// Below that it is noise.
inline constexpr double kSoonestGainMin_s = 0.001;

// An agent cannot begin before it is free, and the model can be loaded meanwhile only if it is being loaded already; to
// count both is the worst case, to count the longer the best. What waits in the queue waits for the same model.
inline double answer_s(const Prospect& prospect) {
  return prospect.wait_s + prospect.load_s + prospect.way_s + prospect.serve_s;
}

struct Soonest {
  size_t index;
  bool stays = false;  // another one is sooner, but not by enough to go there, or to load the model there as well
};

// Nothing if none is available. `current` is where the last call with that model went; without one, of those that are
// about as soon the own host's.
std::optional<Soonest> soonest(std::span<const Prospect> prospects, std::optional<size_t> current);

}  // namespace mesh::routing
