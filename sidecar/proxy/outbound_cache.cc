// Replies that are kept: given to whoever asks the same, fetched once for all who ask meanwhile.
//
// A fetch belongs to nobody: whoever asked first may lose his patience, cancel or die, and the others do not notice.
// Each who waits has its own deadline, and where the fetch's was shorter, it fetches anew.

#include <algorithm>
#include <cmath>
#include <utility>

#include "common/base/prng.h"
#include "sidecar/proxy/outbound.h"

namespace mesh::proxy {
namespace {

using contract::Tier;
using telemetry::CacheKeeping;
using telemetry::CacheMiss;
using telemetry::CacheVerdict;

// What is kept is given up somewhat earlier, by up to a tenth, so that what came together does not go together.
Duration jittered(int64_t ttl_ms, const cache::Hash& hash) {
  const auto part = static_cast<int64_t>(hash.high % 1024);
  return microseconds(ttl_ms * 1000 - ttl_ms * part * 100 / 1024);
}

// Fetched anew before it runs out, the sooner the longer that takes: so nobody waits for what many ask for. (Vattani,
// Chierichetti, Lowenstein, "Optimal Probabilistic Cache Stampede Prevention", VLDB 2015.)
bool is_early(const cache::Kept& kept, uint64_t draw, Instant now) {
  constexpr double kDraws = 1 << 20;
  const double chance = (static_cast<double>(draw % (1 << 20)) + 1) / kDraws;
  const auto ahead_us = static_cast<int64_t>(-static_cast<double>(kept.cost_us) * std::log(chance));
  return now + microseconds(ahead_us) >= kept.fresh_until;
}

}  // namespace

// True if the call is answered, or waits for a fetch.
bool Outbound::answer_from_cache(Call& call, const AgentRequested& event, Instant now, Actions& out) {
  const contract::CacheTerms& terms = *event.keeping->cache;
  cache::Request request = request_reader_.read({.service = event.service,
                                                 .method = event.method,
                                                 .caller = event.keeping->caller,
                                                 .body = event.payload.body.view(),
                                                 .part_sizes = event.payload.part_sizes},
                                                terms);
  telemetry::CacheTrace& trace = call.trace.cache;
  trace.key_low = request.key.hash.low;
  trace.key_high = request.key.hash.high;
  if (request.lacks_tag) {
    trace.verdict = CacheVerdict::kUntagged;
    return false;
  }
  const bool is_home = call.path.link != 0;
  const TieredCache::Found found = kept_.find(request.key, terms, call.service, role_of(is_home), now);
  const cache::Kept* kept = found.kept;
  renew_leases(call.service, now, out);
  std::shared_ptr<Fetch> under_way = fetch_under_way(request.key, is_home, now);
  const bool is_fresh = kept != nullptr && now < kept->fresh_until;
  const bool is_worth_giving = is_fresh || (kept != nullptr && now < kept->revalidate_until);
  const bool is_given = is_worth_giving && is_leased(call.service, kept->origin, now);
  note_lookup(kept, is_worth_giving, is_given, trace);
  if (is_given) {
    const bool is_to_renew = !is_fresh || is_early(*kept, Prng(call.trace.number ^ trace.key_low).next(), now);
    give(call, found, is_fresh ? CacheVerdict::kHit : CacheVerdict::kStale, request.echoes, now, out);
    if (is_to_renew && under_way == nullptr) renew(fetch_for(call, event, request), now, out);
    return true;
  }
  const bool is_first = under_way == nullptr;
  const bool waits = is_first && waits_for_leases(call.service, is_worth_giving ? kept : nullptr, now);
  if (is_first) under_way = fetch_for(call, event, request);
  trace.verdict = is_first ? CacheVerdict::kFetched : CacheVerdict::kJoined;
  if (!is_first) counters_.add(Counter::kCacheJoined);
  wait(std::move(call), under_way, std::move(request.echoes));
  if (waits) {
    validate(under_way, now);
  } else if (is_first) {
    look_further(under_way, now, out);
  }
  return true;
}

void Outbound::give(Call& call, TieredCache::Found found, CacheVerdict verdict, const std::vector<std::string>& echoes,
                    Instant now, Actions& out) {
  const cache::Kept& kept = *found.kept;
  counters_.add(Counter::kCacheHits);
  if (verdict != CacheVerdict::kHit) counters_.add(Counter::kCacheStale);
  call.trace.cache.verdict = verdict;
  call.trace.cache.tier = static_cast<uint8_t>(found.tier);
  call.trace.cache.age_ms = static_cast<uint32_t>(to_us(now - kept.stored_at) / 1000);
  finish(call, {.payload = {cache::with_echoes(kept.body, kept.echoes, echoes), kept.part_sizes}}, {}, now, out);
}

// What peers wait for must not wait for another instance, which may wait for this one.
cache::Hash Outbound::flight_of(const cache::Hash& hash, bool is_home) {
  return {hash.low, is_home ? ~hash.high : hash.high};
}

// Nobody waits for it any more.
void Outbound::forget(const std::shared_ptr<Fetch>& fetch) {
  const auto flight = fetches_.find(flight_of(fetch->key.hash, fetch->is_home));
  if (flight != fetches_.end() && flight->second == fetch) fetches_.erase(flight);
}

// What may have become wrong since it began is nothing to wait for, nor what has run out of time.
std::shared_ptr<Outbound::Fetch> Outbound::fetch_under_way(const cache::Key& key, bool is_home, Instant now) {
  const auto found = fetches_.find(flight_of(key.hash, is_home));
  if (found == fetches_.end()) return nullptr;
  const Fetch& fetch = *found->second;
  const bool is_timely = now < fetch.began + fetch.budget;
  const bool is_right = fetch.key.text.text() == key.text.text() && may_join(fetch, now);
  if (is_right && is_timely && purges_.holds(fetch.since, fetch.names())) return found->second;
  fetches_.erase(found);
  return nullptr;
}

std::shared_ptr<Outbound::Fetch> Outbound::fetch_for(const Call& call, const AgentRequested& event,
                                                     const cache::Request& request) {
  auto fetch = std::make_shared<Fetch>();
  fetch->key = request.key;
  fetch->terms = event.keeping->cache;
  fetch->service = call.service;
  fetch->is_home = call.path.link != 0;
  fetch->is_compulsory = call.trace.cache.miss == CacheMiss::kExpired || call.trace.cache.miss == CacheMiss::kPurged;
  fetch->service_name = cache::name_hash(event.service, "");
  fetch->method_name = cache::name_hash(event.service, std::string(1, '\0') + std::string(event.method));
  fetch->tags = request.tags;
  fetch->echoes = request.echoes;
  fetch->budget = milliseconds(event.budget_ms);
  fetch->hedge_after = milliseconds(event.hedge_ms);
  fetch->model = event.model;
  fetch->idempotent = event.idempotent;
  fetch->is_sensitive = event.is_sensitive;
  fetch->priority = event.priority;
  fetch->linger = call.linger;
  fetch->linger_count = call.linger_count;
  fetch->method = event.method;
  fetch->payload = {event.payload.body.compact(), event.payload.part_sizes};
  return fetch;
}

void Outbound::wait(Call call, std::shared_ptr<Fetch> fetch, std::vector<std::string> echoes) {
  const Instant deadline = call.deadline;
  std::vector<uint64_t>& waiters = fetch->waiters;
  waiters.push_back(waiting_.open({std::move(call), std::move(fetch), std::move(echoes)}, deadline));
}

// Asks, on behalf of all who wait.
void Outbound::fetch(const std::shared_ptr<Fetch>& fetch, Instant now, Actions& out) {
  counters_.add(Counter::kCacheFetches);
  fetches_[flight_of(fetch->key.hash, fetch->is_home)] = fetch;
  const uint64_t bytes = fetch->payload.body.size();
  Call call{.path = {},
            .service = fetch->service,
            .idempotent = fetch->idempotent,
            .is_sensitive = fetch->is_sensitive,
            .hedge_after = fetch->hedge_after,
            .priority = fetch->priority,
            .lane = bytes > limits::bulk_body_bytes ? wire::Lane::kBulk : wire::Lane::kInteractive,
            .deadline = now + fetch->budget,
            .linger = fetch->linger,
            .linger_count = fetch->linger_count,
            .trace = begin_trace(to_us(fetch->budget), now),
            .bytes = bytes,
            .method = fetch->method,
            .model = fetch->model,
            .key = nullptr,
            .fetch = fetch,
            .wrongs = nullptr,
            .payload = {}};
  fetch->number = call.trace.number;
  fetch->began = now;
  fetch->since = purges_.position();
  watch_leases(*fetch, now);
  fetch->was_leased = true;
  const std::vector<Instance>& instances = services_[fetch->service].instances;
  for (uint32_t i = 0; i < instances.size(); ++i) {
    fetch->was_leased = fetch->was_leased && is_leased(fetch->service, i, now);
    if (instances[i].local || bytes <= limits::bulk_body_bytes) continue;
    fetch->since = leases_.before_question(instances[i].peer, fetch->since);
  }
  if (!fetch->was_leased && !is_only_writer(fetch->service)) end_flight(*fetch);  // it is not kept: nobody is to wait
  admit(std::move(call), Payload(fetch->payload), now, out);
}

// It came, or it will not: all who wait are told.
void Outbound::land(const std::shared_ptr<Fetch>& landed, Outcome&& outcome, const wire::CalleeSpans* spans,
                    Instant now, Actions& out) {
  forget(landed);
  std::optional<cache::Kept> old;  // giving it may bring others, for whom it has to go
  Tier old_tier = Tier::kLocal;
  cache::Reply reply;
  auto keeping = CacheKeeping::kFailed;
  if (outcome.code == Code::kOk) {
    reply = reply_reader_.read(outcome.payload.body.view(), *landed->terms, landed->echoes);
    keeping = keep(*landed, outcome, reply, now, out);
  } else {
    const TieredCache::Found found_old = find_kept(*landed, now);
    const cache::Kept* kept = found_old.kept;
    if (kept != nullptr && now < kept->error_until && is_leased(landed->service, kept->origin, now)) {
      old = *kept;
      old_tier = found_old.tier;
    }
  }
  end_flight(*landed);
  std::shared_ptr<Fetch> again;
  bool is_under_way = false;
  for (const uint64_t id : std::exchange(landed->waiters, {})) {
    Waiting waiter = waiting_.close(id);
    waiter.call.trace.cache.fetch = landed->number;
    waiter.call.trace.cache.keeping = keeping;
    const Duration left = waiter.call.deadline - now;
    if (old) {
      give(waiter.call, {&*old, old_tier}, CacheVerdict::kStaleError, waiter.echoes, now, out);
    } else if (outcome.code == Code::kDeadline && left > milliseconds(limits::hop_margin_ms)) {
      if (again == nullptr) {
        again = fetch_under_way(landed->key, landed->is_home, now);  // somebody may have come since
        is_under_way = again != nullptr;
        if (!is_under_way) again = std::make_shared<Fetch>(*landed);
      }
      if (!is_under_way) again->budget = std::max(again->waiters.empty() ? Duration{0} : again->budget, left);
      wait(std::move(waiter.call), again, std::move(waiter.echoes));
    } else {
      Outcome own = copy_of(outcome);
      own.payload.body = cache::with_echoes(own.payload.body, reply.echoes, waiter.echoes);
      if (outcome.cache != nullptr) {  // kept beside its agent
        waiter.call.trace.cache.tier = outcome.cache->tier;
        waiter.call.trace.cache.age_ms = outcome.cache->age_ms;
      }
      finish(waiter.call, std::move(own), {.spans = landed->is_home ? spans : nullptr}, now, out);
    }
  }
  if (again == nullptr || is_under_way) return;
  fetch(again, now, out);
}

CacheKeeping Outbound::keep(const Fetch& fetch, const Outcome& outcome, const cache::Reply& reply, Instant now,
                            Actions& out) {
  const contract::CacheTerms& terms = *fetch.terms;
  const int64_t ttl_ms = reply.is_success ? terms.ttl_ms : terms.negative_ttl_ms;
  const CacheKeeping keeping = keeping_of(fetch, outcome, reply, now);
  if (keeping != CacheKeeping::kKept) return keeping;
  const Duration age = milliseconds(outcome.cache != nullptr ? outcome.cache->age_ms : 0);
  cache::Kept kept{.key = fetch.key,
                   .service = fetch.service_name,
                   .method = fetch.method_name,
                   .tags = fetch.tags,
                   .body = outcome.payload.body.compact(),
                   .part_sizes = outcome.payload.part_sizes,
                   .echoes = reply.echoes,
                   .stored_at = now - age,
                   // As old as its question: nobody knows when in between it was true (RFC 9111, 4.2.3); and older, if
                   // it was kept where it comes from.
                   .fresh_until = fetch.began + jittered(ttl_ms, fetch.key.hash) - age,
                   .cost_us = to_us(now - fetch.began),
                   .since = fetch.since,
                   .origin = fetch.origin};
  kept.revalidate_until = kept.fresh_until;
  kept.error_until = kept.fresh_until;
  if (reply.is_success) {
    kept.revalidate_until += milliseconds(terms.stale_while_revalidate_ms);
    kept.error_until += milliseconds(terms.stale_if_error_ms);
  }
  note_kept(fetch, kept.bytes());
  if (reply.is_success) store(kept, fetch, now, out);
  const uint64_t evicted_before = kept_.local().evicted();
  kept_.put(std::move(kept), terms, fetch.service, role_of(fetch.is_home), now);
  counters_.add(Counter::kCacheEvicted, kept_.local().evicted() - evicted_before);
  return keeping;
}

void Outbound::expire_waiting(uint64_t id, Instant now, Actions& out) {
  Waiting waiter = waiting_.close(id);
  std::erase(waiter.fetch->waiters, id);
  waiter.call.trace.cache.fetch = waiter.fetch->number;
  const TieredCache::Found old = find_kept(*waiter.fetch, now);
  if (old.kept != nullptr && now < old.kept->error_until && is_leased(waiter.fetch->service, old.kept->origin, now)) {
    return give(waiter.call, old, CacheVerdict::kStaleError, waiter.echoes, now, out);
  }
  finish(waiter.call,
         rejector_.reject(Code::kDeadline, services_[waiter.call.service].name, "cache", "deadline_passed",
                          "no answer came in time", "it is still being fetched: ask again; raise budget_ms"),
         {}, now, out);
}

// Where a field is missing that a tag names, all that is kept of the service is taken for wrong.
std::unique_ptr<std::vector<uint64_t>> Outbound::wrongs_of(const AgentRequested& event) {
  auto names = std::make_unique<std::vector<uint64_t>>();
  const cache::Asked asked{.service = event.service,
                           .method = event.method,
                           .caller = {},
                           .body = event.payload.body.view(),
                           .part_sizes = event.payload.part_sizes};
  const bool is_all =
      event.keeping->invalidates->empty() || !request_reader_.read_tags(asked, *event.keeping->invalidates, *names);
  if (is_all) *names = {cache::name_hash(event.service, "")};
  return names;
}

void Outbound::make_wrong(const std::vector<uint64_t>& names) {
  for (const uint64_t name : names) purges_.purge(name);
}

}  // namespace mesh::proxy
