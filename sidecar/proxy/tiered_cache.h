// Replies kept in this process and in memory that its host's sidecars share: looked for in the nearest first.
//
// For this sidecar's own callers the shared memory is the tier behind its own; for peers that ask its agents it is the
// home of what these gave. Both are the same memory, and what one puts there the other finds.
#pragma once

#include <cstdint>
#include <optional>

#include "common/cache/memory_tier.h"
#include "common/cache/purges.h"
#include "common/cache/shared_tier.h"
#include "common/contract/cache_terms.h"
#include "sidecar/proxy/services.h"

namespace mesh::proxy {

class TieredCache {
 public:
  // For whom: the callers of this sidecar, or peers that ask its agents.
  enum class Role : uint8_t { kCaller, kHome };
  struct Found {
    const cache::Kept* kept = nullptr;  // valid until the next call of this; its origin is an instance of the service
    contract::Tier tier = contract::Tier::kLocal;
  };
  struct Counts {
    uint64_t hits = 0;
    uint64_t misses = 0;
  };

  // `shared` may be null; all references must outlive this.
  TieredCache(uint64_t local_bytes, cache::SharedTier* shared, const Services& services, const cache::Purges& purges)
      : local_(local_bytes), shared_(shared), services_(services), purges_(purges) {}

  // What is kept for the key in the tiers that the terms allow for the role, the fresher one if there are two; none if
  // that is of no use, was purged or came from an instance that is not known here.
  Found find(const cache::Key& key, const contract::CacheTerms& terms, ServiceIndex service, Role role, Instant now) {
    return look(key, terms, service, role, true, now);
  }
  // Likewise, for who has looked before: it counts for nothing.
  Found find_again(const cache::Key& key, const contract::CacheTerms& terms, ServiceIndex service, Role role,
                   Instant now) {
    return look(key, terms, service, role, false, now);
  }
  // Whether another sidecar put something fresher than this one's memory has, for callers; then that has it, too.
  bool takes_fresher(const cache::Key& key, const contract::CacheTerms& terms, ServiceIndex service, Instant now);
  void put(cache::Kept kept, const contract::CacheTerms& terms, ServiceIndex service, Role role, Instant now);

  // Whether the terms allow any tier here.
  bool is_used(const contract::CacheTerms& terms, ServiceIndex service, Role role) const {
    return uses_local(terms, service, role) || uses_shared(terms, role);
  }

  // Whether what one sidecar of the host gets, the others find.
  bool is_shared(const contract::CacheTerms& terms, Role role) const { return uses_shared(terms, role); }

  // Wherever here it is kept; for people: it is no use of it, and its origin means nothing.
  struct Seen {
    cache::Kept kept;
    contract::Tier tier = contract::Tier::kLocal;
  };
  std::optional<Seen> look(const cache::Hash& hash, Instant now) const;

  const cache::MemoryTier& local() const { return local_; }
  const cache::SharedTier* shared() const { return shared_; }
  // By contract::Tier; of lookups of fresh replies.
  const Counts& counts(contract::Tier tier) const { return counts_[static_cast<size_t>(tier)]; }

 private:
  bool uses_local(const contract::CacheTerms& terms, ServiceIndex service, Role role) const;
  bool uses_shared(const contract::CacheTerms& terms, Role role) const;
  const cache::Kept* find_shared(const cache::Key& key, const contract::CacheTerms& terms, ServiceIndex service,
                                 Instant now);
  Found look(const cache::Key& key, const contract::CacheTerms& terms, ServiceIndex service, Role role, bool counts,
             Instant now);
  void count(contract::Tier tier, const cache::Kept* kept, Instant now);

  cache::MemoryTier local_;
  cache::SharedTier* shared_;
  const Services& services_;
  const cache::Purges& purges_;
  std::optional<cache::Kept> copy_;  // of what was found in shared memory
  Counts counts_[4];
};

}  // namespace mesh::proxy
