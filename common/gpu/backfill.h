// Who may go first while another has the next free memory reserved.
//
// Supermarket, one till: somebody with a full cart waits for the till to be set up; whoever has one thing may go in
// between if he is done by then, or if what he needs is not what the other waits for. EASY backfill (Lifka 1995;
// Mu'alem and Feitelson 2001), with one more way: who can be asked to step back at any time may always go.
#pragma once

#include <algorithm>
#include <span>
#include <vector>

#include "common/base/instant.h"
#include "common/gpu/units.h"

namespace mesh::gpu {

// A hold on the GPU and when it is expected to end; kNever if nobody knows.
struct ExpectedEnd {
  Instant at = kNever;
  Units units = 0;
};

// When whoever has the reservation may have his memory.
struct Shadow {
  Instant at{};     // not before: holds of unknown length may end at once
  Units spare = 0;  // what will be free beside it even if they do not
};

// `ends` is put in order.
inline Shadow shadow_of(Units need, Units grantable, std::span<ExpectedEnd> ends, Instant now) {
  std::sort(ends.begin(), ends.end(), [](const ExpectedEnd& a, const ExpectedEnd& b) { return a.at < b.at; });
  const auto is_known = [now](const ExpectedEnd& end) { return end.at != kNever && end.at > now; };
  Units hopeful = grantable;
  for (const ExpectedEnd& end : ends) hopeful += is_known(end) ? 0 : end.units;
  Shadow shadow{hopeful >= need ? now : kNever, 0};
  Units certain = grantable;
  for (const ExpectedEnd& end : ends) {
    if (!is_known(end)) continue;
    hopeful += end.units;
    certain += end.units;
    if (shadow.at == kNever && hopeful >= need) shadow.at = end.at;
    if (certain >= need) {
      shadow.spare = certain - need;
      break;
    }
  }
  return shadow;
}

struct Backfill {
  Units units = 0;
  Duration hold{};             // 0: unknown
  bool can_step_back = false;  // for the one with the reservation
};

inline bool may_backfill(const Backfill& asked, const Shadow& shadow, Instant now) {
  if (asked.can_step_back) return true;
  const bool is_done_by_then = asked.hold > Duration{} && shadow.at != kNever && now + asked.hold <= shadow.at;
  return is_done_by_then || asked.units <= shadow.spare;
}

}  // namespace mesh::gpu
