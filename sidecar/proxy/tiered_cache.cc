#include "sidecar/proxy/tiered_cache.h"

#include <algorithm>
#include <utility>

namespace mesh::proxy {

using contract::Tier;

namespace {

// Whoever put it may have a contract that gives such replies longer.
void curtail(cache::Kept& kept, const contract::CacheTerms& terms) {
  const Instant asked_at = kept.stored_at - microseconds(kept.cost_us);
  kept.fresh_until = std::min(kept.fresh_until, asked_at + milliseconds(terms.ttl_ms));
  const auto behind = [&](int64_t span_ms) { return kept.fresh_until + milliseconds(span_ms); };
  kept.revalidate_until = std::min(kept.revalidate_until, behind(terms.stale_while_revalidate_ms));
  kept.error_until = std::min(kept.error_until, behind(terms.stale_if_error_ms));
}

}  // namespace

// What comes from the disk passes through here, and at home this process's own memory has what the shared one is too
// small for.
bool TieredCache::uses_local(const contract::CacheTerms& terms, ServiceIndex service, Role role) const {
  const bool is_own = !services_[service].agents.empty();
  return terms.uses(role == Role::kHome ? Tier::kHome : Tier::kLocal) || (terms.uses(Tier::kDisk) && is_own);
}

bool TieredCache::uses_shared(const contract::CacheTerms& terms, Role role) const {
  return shared_ != nullptr && terms.uses(role == Role::kHome ? Tier::kHome : Tier::kShared);
}

void TieredCache::count(Tier tier, const cache::Kept* kept, Instant now) {
  Counts& counts = counts_[static_cast<size_t>(tier)];
  ++(kept != nullptr && now < kept->fresh_until ? counts.hits : counts.misses);
}

TieredCache::Found TieredCache::look(const cache::Key& key, const contract::CacheTerms& terms, ServiceIndex service,
                                     Role role, bool counts, Instant now) {
  const Tier behind = role == Role::kHome ? Tier::kHome : Tier::kShared;
  const Tier near = role == Role::kHome ? Tier::kHome : Tier::kLocal;
  const cache::Kept* local = uses_local(terms, service, role) ? local_.find(key, purges_, now) : nullptr;
  if (local != nullptr && local->origin >= services_[service].instances.size()) local = nullptr;
  const bool looks_on = uses_shared(terms, role) && (local == nullptr || now >= local->fresh_until);
  if (counts && uses_local(terms, service, role) && (near != behind || !looks_on)) count(near, local, now);
  if (!looks_on) return {local, near};
  const cache::Kept* shared = find_shared(key, terms, service, now);
  if (counts) count(behind, shared, now);
  if (shared == nullptr || (local != nullptr && local->fresh_until >= shared->fresh_until)) return {local, near};
  if (role == Role::kCaller && uses_local(terms, service, role)) local_.put(*shared, now);
  return {shared, behind};
}

bool TieredCache::takes_fresher(const cache::Key& key, const contract::CacheTerms& terms, ServiceIndex service,
                                Instant now) {
  if (!uses_local(terms, service, Role::kCaller) || !uses_shared(terms, Role::kCaller)) return false;
  const cache::Kept* local = local_.find(key, purges_, now);
  const cache::Kept* shared = find_shared(key, terms, service, now);
  if (local == nullptr || shared == nullptr || local->fresh_until >= shared->fresh_until) return false;
  local_.put(*shared, now);
  return true;
}

const cache::Kept* TieredCache::find_shared(const cache::Key& key, const contract::CacheTerms& terms,
                                            ServiceIndex service, Instant now) {
  auto found = shared_->find(key, now);
  if (!found || !purges_.holds(found->kept.since, found->kept.names())) return nullptr;
  // Whoever put it may have another contract, or know other instances.
  const auto is_asked = [&](const cache::Echo& echo) { return echo.field < terms.echo_fields.size(); };
  if (!std::all_of(found->kept.echoes.begin(), found->kept.echoes.end(), is_asked)) return nullptr;
  const auto& instances = services_[service].instances;
  const auto origin = std::find_if(instances.begin(), instances.end(), [&](const Instance& instance) {
    return instance.name_digest == found->origin_name;
  });
  if (origin == instances.end()) return nullptr;
  found->kept.origin = static_cast<uint32_t>(origin - instances.begin());
  curtail(found->kept, terms);
  if (now >= found->kept.useful_until()) return nullptr;
  copy_ = std::move(found->kept);
  return &*copy_;
}

std::optional<TieredCache::Seen> TieredCache::look(const cache::Hash& hash, Instant now) const {
  if (const cache::Kept* kept = local_.look(hash, purges_, now)) return Seen{*kept, Tier::kLocal};
  if (shared_ == nullptr) return std::nullopt;
  auto found = shared_->look(hash, now);
  if (!found || !purges_.holds(found->kept.since, found->kept.names())) return std::nullopt;
  return Seen{std::move(found->kept), Tier::kShared};
}

void TieredCache::put(cache::Kept kept, const contract::CacheTerms& terms, ServiceIndex service, Role role,
                      Instant now) {
  const uint64_t origin_name = services_[service].instances[kept.origin].name_digest;
  const bool is_shared = uses_shared(terms, role) && shared_->put(kept, origin_name, now);
  if (role == Role::kHome && is_shared) return;
  if (uses_local(terms, service, role)) local_.put(std::move(kept), now);
}

}  // namespace mesh::proxy
