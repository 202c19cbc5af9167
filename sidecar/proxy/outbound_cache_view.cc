// What is known of kept replies for whoever wants to know: counted at each look-up, and told when asked.

#include "sidecar/proxy/outbound.h"

namespace mesh::proxy {

using telemetry::CacheKeeping;
using telemetry::CacheMiss;

// A request that may be answered with what is kept. `is_given`: it is.
void Outbound::note_lookup(const cache::Kept* kept, bool is_worth_giving, bool is_given, telemetry::CacheTrace& trace) {
  using Absence = cache::MemoryTier::Absence;
  if (is_given) return note_access(trace.key_low, kept->bytes(), false);
  if (kept != nullptr) {
    trace.miss = is_worth_giving ? CacheMiss::kUnleased : CacheMiss::kExpired;
  } else {
    const Absence absence = kept_.local().absence();
    trace.miss = absence == Absence::kRanOut        ? CacheMiss::kExpired
                 : absence == Absence::kBecameWrong ? CacheMiss::kPurged
                                                    : CacheMiss::kAbsent;
  }
}

void Outbound::note_access(uint64_t key_low, uint64_t bytes, bool is_compulsory) {
  if (!curve_) curve_.emplace(std::max<uint64_t>(1, kept_.local().budget_bytes()) * kCurveReach);
  curve_->on_access(key_low, bytes, is_compulsory);
}

// All who waited for it would have been hits, had it been there, and all but the first are if they come a little later.
void Outbound::note_kept(const Fetch& fetch, uint64_t bytes) {
  for (size_t i = 0; i < fetch.waiters.size(); ++i) {
    note_access(fetch.key.hash.low, bytes, i == 0 && fetch.is_compulsory);
  }
}

CacheKeeping Outbound::keeping_of(const Fetch& fetch, const Outcome& outcome, const cache::Reply& reply,
                                  Instant now) const {
  const contract::CacheTerms& terms = *fetch.terms;
  if ((reply.is_success ? terms.ttl_ms : terms.negative_ttl_ms) <= 0) return CacheKeeping::kUnsuccessful;
  if (!kept_.is_used(terms, fetch.service, role_of(fetch.is_home))) return CacheKeeping::kElsewhere;
  if (outcome.payload.body.size() > limits::cached_reply_bytes) return CacheKeeping::kTooLarge;
  if (!may_keep(fetch, now)) return CacheKeeping::kUnleased;
  return purges_.holds(fetch.since, fetch.names()) ? CacheKeeping::kKept : CacheKeeping::kPurged;
}

// Shared memory is one for two purposes: what it holds is told once, and what was found of it by purpose.
std::vector<Outbound::TierView> Outbound::tiers() const {
  using contract::Tier;
  const cache::MemoryTier& local = kept_.local();
  std::vector<TierView> tiers = {{.tier = Tier::kLocal,
                                  .entries = local.entries(),
                                  .bytes = local.held_bytes(),
                                  .budget_bytes = local.budget_bytes(),
                                  .evicted = local.evicted()}};
  if (const cache::SharedTier* shared = kept_.shared()) {
    tiers.push_back({.tier = Tier::kShared,
                     .entries = shared->entries(),
                     .bytes = shared->held_bytes(),
                     .budget_bytes = shared->region_bytes(),
                     .evicted = shared->counts().evicted});
  }
  tiers.push_back({.tier = Tier::kHome});
  for (TierView& tier : tiers) {
    tier.hits = kept_.counts(tier.tier).hits;
    tier.misses = kept_.counts(tier.tier).misses;
  }
  return tiers;
}

}  // namespace mesh::proxy
