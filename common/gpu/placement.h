// On which card, of this host or another, a piece of work should run: where it is done first.
//
// Everything counts in seconds, so there is nothing to weigh: memory that is not free is time to make room, a model
// that is not there is bytes over a bandwidth, a busy or hot card is work that takes longer. Affinities (a large card
// for large models, a small one for preprocessing, weights where they are) decide between cards that are about as fast.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "common/base/instant.h"
#include "common/gpu/size_class.h"
#include "common/gpu/units.h"

namespace mesh::gpu {

enum class Affinity : uint8_t {
  kNone,
  kPrimary,    // the largest card: large models and inference
  kSecondary,  // the smallest: loading and preprocessing
  kShared,     // where others use the same weights
};

// What a model that size is best placed by, if nobody says anything else: a large one on a small card pushes out all
// that is there.
constexpr Affinity affinity_of(Units units) {
  return class_of(units) >= SizeClass::kLarge ? Affinity::kPrimary : Affinity::kNone;
}

struct Work {
  Units units = 0;       // that it needs
  double service_s = 0;  // on a cool and idle card
  Affinity affinity = Affinity::kNone;
};

// A card as it is known here.
struct Site {
  bool is_own_host = true;
  Instant heard_at{};         // of another host's: when it said so
  Units largest = 0;          // that could ever be granted there
  double queue_s = 0;         // until it would be its turn
  double reclaim_s = 0;       // to make room
  Units missing = 0;          // of its model
  double load_gib_per_s = 0;  // from where the rest of it is; 0: unknown
  double utilisation = 0;     // of its compute, 0 to 1
  double slowdown = 1;        // for its heat
  double network_s = 0;       // there and back
  uint32_t users = 0;         // of the same weights
  bool is_coming = false;     // somebody asked for the same model there: who comes waits for the same load
};

// Other hosts say once a second how they are.
inline constexpr Duration kSiteStale = milliseconds(3000);
// A move costs more than it seems, and predictions are no better than that.
inline constexpr double kGainMin = 0.15;

// Seconds until it is done there.
double predicted_s(const Work& work, const Site& site);
// Where to put it: an index into `sites`; nothing if it fits nowhere that is known of lately. Work that is at `current`
// moves only for a gain of kGainMin. What is coming somewhere is not loaded again elsewhere: that takes the time of a
// load twice, and of both cards what would have been needed soon. (On traces with two cards it cost a twelfth more
// loads and a fifth of the mean wait.)
std::optional<size_t> place(const Work& work, std::span<const Site> sites, std::optional<size_t> current, Instant now);

}  // namespace mesh::gpu
