// Whose memory is taken when there is not enough.
//
// Each lease is worth what it would cost to have it again: uses × seconds to load × weight, and per GiB that is its
// score, on top of an age L that rises with each eviction, so that what is not used falls behind (GreedyDual-Size with
// Frequency: Cherkasova 1998, after Cao and Irani 1997). But lowest scores first is not yet the cheapest set: to get
// 1 GiB, eight small ones may go where one would have done. With a few dozen leases the set can be looked for: branch
// and bound over the order of scores, within 5 % of the best, and none in it that need not be.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "common/base/instant.h"
#include "common/gpu/size_class.h"
#include "common/gpu/units.h"

namespace mesh::gpu {

// The age of a GPU, and what leases are worth in it.
class Worth {
 public:
  // As of a use now. Later the age has risen and it has not.
  double score(uint32_t uses, Duration load_time, double weight, Units units) const;
  // What it costs to take that many units of a lease: of the part of its score that age has not caught up with.
  double cost(double score, Units units) const;
  void evicted(double score) { age_ = score > age_ ? score : age_; }
  double age() const { return age_; }

 private:
  double age_ = 0;
};

struct Candidate {
  LeaseId id{};
  Units units = 0;  // that could be had
  SizeClass size = SizeClass::kSmall;
  double cost = 0;
  bool in_use = false;  // such are taken only if the others are not enough
};

struct Victims {
  std::vector<LeaseId> ids;
  Units units = 0;
  double cost = 0;
};

// The victims for at least `need` units, no more than `evictable` of each class; nothing if they are not to be had. Of
// more than 64 candidates the 64 with the lowest scores are looked at.
std::optional<Victims> choose_victims(Units need, std::span<const Candidate> candidates, const ClassUnits& evictable);

}  // namespace mesh::gpu
