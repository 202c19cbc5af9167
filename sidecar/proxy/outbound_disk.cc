// Replies of this sidecar's agents on its disk: asked where memory has none, before the agent is.
//
// What lies there is right as far as this sidecar was told: who makes it wrong has it erased. What others of its host
// were told and it was not stands in the book of purges that they share, so a reply counts from the position at which
// it was asked for, and one of another book from before this one's beginning, and not at all if it can be written. What
// is being erased is not taken.

#include <algorithm>
#include <utility>

#include "common/cache/kept_form.h"
#include "common/routing/rendezvous.h"
#include "sidecar/proxy/outbound.h"

namespace mesh::proxy {
namespace {

// A disk that takes longer is not worth waiting for: the agent is asked.
constexpr int64_t kDiskWait_ms = 100;

}  // namespace

bool Outbound::may_be_on_disk(const Fetch& fetch) const {
  const Service& service = services_[fetch.service];
  const bool is_own = !service.agents.empty() && (fetch.is_home || service.instances.size() == 1);
  return has_disk_ && is_own && fetch.terms->uses(contract::Tier::kDisk) && !fetch.was_looked_for_on_disk;
}

void Outbound::look_further(const std::shared_ptr<Fetch>& fetch, Instant now, Actions& out) {
  if (wait_for_host(fetch, now, out)) return;
  if (!may_be_on_disk(*fetch)) return this->fetch(fetch, now, out);
  fetches_[flight_of(fetch->key.hash, fetch->is_home)] = fetch;
  fetch->was_looked_for_on_disk = true;
  fetch->began = now;
  fetch->since = purges_.position();
  loading_.push_back({++last_load_, fetch, now + milliseconds(kDiskWait_ms)});
  out.push_back(LoadReply{last_load_, fetch->key.hash});
}

void Outbound::on(ReplyLoaded&& event, Instant now, Actions& out) {
  const auto loading =
      std::find_if(loading_.begin(), loading_.end(), [&](const Loading& each) { return each.ticket == event.ticket; });
  if (loading == loading_.end()) return;
  const std::shared_ptr<Fetch> fetch = std::move(loading->fetch);
  loading_.erase(loading);
  if (event.reply) take_from_disk(*fetch, *event.reply, now);
  validate(fetch, now);
  go_on_validating(now, out);
}

void Outbound::give_up_disk(Instant now, Actions& out) {
  while (!loading_.empty() && loading_.front().until <= now) {
    const std::shared_ptr<Fetch> fetch = std::move(loading_.front().fetch);
    loading_.pop_front();
    this->fetch(fetch, now, out);
  }
}

// The origin of a reply that lies on disk, as it is called there: another book's positions mean nothing in this one.
uint64_t Outbound::name_on_disk(const Instance& origin) const {
  return routing::rendezvous_weight(book_id_, origin.name_digest);
}

// Into memory, where it is found like all that is kept. Its clock may have been another computer start's.
void Outbound::take_from_disk(Fetch& fetch, const StoredReply& stored, Instant now) {
  auto found = cache::decode_kept_form(stored.value);
  if (!found || found->kept.key.text.text() != fetch.key.text.text()) return;
  cache::Kept& kept = found->kept;
  const Instant stored_at = now - milliseconds(stored.age_ms);
  const Duration shift = stored_at - kept.stored_at;
  kept.stored_at = stored_at;
  for (Instant* until : {&kept.fresh_until, &kept.revalidate_until, &kept.error_until}) *until += shift;
  kept.key = fetch.key;
  kept.origin = 0;  // this sidecar's agents are the first instance
  const Service& service = services_[fetch.service];
  if (found->origin_name != name_on_disk(service.instances[kept.origin])) {
    // A process before was to erase it, and may not have lived to do so: see Inbound::begin().
    if (service.has_writes) return;
    kept.since = 0;
  }
  const auto is_asked = [&](const cache::Echo& echo) { return echo.field < fetch.terms->echo_fields.size(); };
  const bool is_right = purges_.holds(kept.since, kept.names()) && !inbound_.is_being_erased(kept.names()) &&
                        std::all_of(kept.echoes.begin(), kept.echoes.end(), is_asked);
  if (!is_right) return;
  fetch.was_on_disk = true;
  kept_.put(std::move(kept), *fetch.terms, fetch.service, role_of(fetch.is_home), now);
}

void Outbound::store(const cache::Kept& kept, const Fetch& fetch, Instant now, Actions& out) {
  const bool is_own = services_[fetch.service].instances[kept.origin].local;
  const int64_t ttl_ms = to_us(kept.useful_until() - now) / 1000;
  if (!has_disk_ || !is_own || !fetch.terms->uses(contract::Tier::kDisk) || ttl_ms < config_.limits.disk_ttl_ms_min) {
    return;
  }
  Slice form = cache::encode_kept_form(kept, name_on_disk(services_[fetch.service].instances[kept.origin]));
  if (form.empty()) return;
  const cache::Names names = kept.names();
  std::vector<uint64_t> all = {names.service, names.method, names.key};
  all.insert(all.end(), names.tags.begin(), names.tags.end());
  out.push_back(StoreReply{.hash = kept.key.hash,
                           .value = std::move(form),
                           .cost_us = kept.cost_us,
                           .ttl_ms = ttl_ms,
                           .age_ms = to_us(now - kept.stored_at) / 1000,
                           .names = std::move(all)});
}

}  // namespace mesh::proxy
