// What of one card is whose.
//
// A hotel that lets rooms by the night while the city moves in through the back door: rooms let (leases) are known for
// sure, those taken by strangers (foreign) are counted once a second and counted at their worst of the last half
// minute, and a few are never let (the emergency reserve). Nothing is let that strangers, as last counted, have. When
// they take rooms that were let already the books say so, and nothing is let until it has been made up for.
#pragma once

#include <cstdint>
#include <deque>
#include <unordered_map>
#include <vector>

#include "common/base/instant.h"
#include "common/gpu/bounds.h"
#include "common/gpu/units.h"

namespace mesh::gpu {

// How hard those that hold no lease press on the card.
enum class Pressure : uint8_t {
  kGreen,
  kAmber,  // to grow once more as in the last half minute would eat into the reserve
  kRed,    // they eat into it: no grants, and those who can are asked to yield
};

// What the emergency reserve was drawn on for.
enum class Draw : uint8_t {
  kRollback,  // to restore what was evicted by a swap that failed
  kStaging,   // to copy what is being taken back
  kCritical,  // for who cannot wait a second
};

struct Card {
  Units total = 0;
  Units driver_reserved = 0;
  Units emergency = bounds::emergency_units;
};

class Ledger {
 public:
  explicit Ledger(Card card) : card_(card) {}

  // What is used and no lease explains, as just measured. `now` never goes back.
  void observe_foreign(Units units, Instant now);
  // What the context of a process takes, beside its lease; 0 when it is gone.
  void observe_context(uint64_t process, Units units);
  // Forgets peaks that are too old.
  void advance(Instant now);

  // Puts units under an id, more of them if it has some. False, and nothing is done, if they are not grantable.
  bool take(LeaseId id, Units units);
  // Likewise out of the emergency reserve, as far as it goes; until it is repaid nothing is grantable.
  bool draw(LeaseId id, Units units, Draw use, Instant now);
  // Takes over what is held already, after a restart: true, whether or not there is room for it.
  void adopt(LeaseId id, Units units);
  // Gives some back; no more than it holds.
  void give_back(LeaseId id, Units units);
  void drop(LeaseId id);

  Units held_by(LeaseId id) const;
  size_t holders() const { return held_.size(); }
  const Card& card() const { return card_; }
  Units leased() const { return leased_; }
  Units foreign() const { return foreign_.empty() ? 0 : foreign_.front().units; }
  Units contexts() const { return contexts_units_; }
  // What leases may hold in all; negative if others have more than was to spare.
  Units capacity() const { return largest() - foreign() - contexts_units_; }
  // The largest lease there could ever be, if nobody held anything.
  Units largest() const { return card_.total - card_.driver_reserved - card_.emergency; }
  Units grantable() const;
  // Leased beyond the capacity: first what was drawn, the rest was imposed by those without leases.
  Units excess() const;
  Units drawn() const { return drawn_units_; }
  // The id of a draw that has to be repaid by now: the oldest; zero if there is none.
  LeaseId overdue_draw(Instant now) const;

  Pressure pressure() const;
  // Whether the books are right: Σ leases + reserves ≤ total − foreign, but for what was drawn or imposed.
  bool holds() const;

 private:
  struct Sample {
    Instant at;
    Units units;
  };
  struct Drawn {
    LeaseId id;
    Units units;
    Draw use;
    Instant until;
  };
  void settle();
  void impose();

  Card card_;
  std::unordered_map<LeaseId, Units, HashOfId> held_;
  Units leased_ = 0;
  std::unordered_map<uint64_t, Units> contexts_;
  Units contexts_units_ = 0;
  // Each larger than all behind it: the first is the peak of the window, the last is now.
  std::deque<Sample> foreign_;
  Units lowest_ = 0;  // what was last measured when the peak rose: growth counts from there
  std::vector<Drawn> draws_;
  Units drawn_units_ = 0;
  Units imposed_ = 0;
};

}  // namespace mesh::gpu
