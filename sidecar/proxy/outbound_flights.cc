// What this host's other sidecars are fetching is waited for, and found where they all keep it: so a host asks once.
//
// Each is waited for once, and only as long as it says that it is still at it.

#include <algorithm>
#include <utility>

#include "sidecar/proxy/outbound.h"

namespace mesh::proxy {
namespace {

// Between two looks: an eighth of what it has taken so far, so that what is quick is not made slow.
constexpr Duration kLook_min = milliseconds(1);
constexpr Duration kLook_max = milliseconds(10);
// Who is late once is still believed.
static_assert(2 * limits::flight_renewal_ms < limits::flight_ms);
static_assert(limits::flight_ms < cache::SharedFlights::kBelieved_ms);

// What is left must be enough to ask, and to hear that nobody can be asked.
Duration patience(Duration budget) {
  return std::max(budget / 4, std::min(budget / 2, budget - milliseconds(limits::connect_wait_ms)));
}

}  // namespace

// As far as whoever has it under way asked behind what became wrong of it.
bool Outbound::is_on_its_way(const Fetch& fetch, Instant now) const {
  return flights_->is_under_way(fetch.key.hash, now, purges_.purged_up_to(fetch.names()));
}

// False if another sidecar has it under way, which will tell the host.
bool Outbound::begin_flight(const std::shared_ptr<Fetch>& fetch, Instant now) {
  if (!flights_ || fetch->is_home || fetch->mark || !kept_.is_shared(*fetch->terms, role_of(false))) return true;
  fetch->mark = flights_->begin(fetch->key.hash, now, now + milliseconds(limits::flight_ms), purges_.position(),
                                purges_.purged_up_to(fetch->names()));
  if (!fetch->mark) return !is_on_its_way(*fetch, now);
  marked_.push_back(fetch);
  extend_at_ = std::min(extend_at_, now + milliseconds(limits::flight_renewal_ms));
  return true;
}

void Outbound::end_flight(Fetch& fetch) {
  if (fetch.mark) flights_->end(*fetch.mark);
  fetch.mark.reset();
}

void Outbound::extend_flights(Instant now) {
  std::erase_if(marked_, [&](const std::shared_ptr<Fetch>& fetch) {
    if (fetch->mark && !flights_->extend(*fetch->mark, now + milliseconds(limits::flight_ms))) fetch->mark.reset();
    return !fetch->mark;
  });
  extend_at_ = marked_.empty() ? kNever : now + milliseconds(limits::flight_renewal_ms);
}

// Nobody waits for it yet: if another sidecar does the same there is nothing to do.
void Outbound::renew(const std::shared_ptr<Fetch>& fetch, Instant now, Actions& out) {
  if (!begin_flight(fetch, now)) return;
  // It may have done so just before.
  if (fetch->mark && kept_.takes_fresher(fetch->key, *fetch->terms, fetch->service, now)) return end_flight(*fetch);
  this->fetch(fetch, now, out);
}

// False if it is to be asked for by this sidecar.
bool Outbound::wait_for_host(const std::shared_ptr<Fetch>& fetch, Instant now, Actions& out) {
  if (!flights_ || std::exchange(fetch->was_waited_for, true)) return false;
  if (begin_flight(fetch, now)) {
    // Who had it under way may have got it, and ended, since it was looked for.
    const cache::Kept* kept = fetch->mark ? find_kept(*fetch, now).kept : nullptr;
    if (kept == nullptr || !is_leased(fetch->service, kept->origin, now)) return false;
    validate(fetch, now);
    go_on_validating(now, out);
    return true;
  }
  const uint64_t bytes = fetch->payload.body.size();
  if (held_bytes_ + bytes > config_.limits.process_queued_bytes) return false;
  held_bytes_ += bytes;
  counters_.add(Counter::kCacheJoinedHost);
  fetches_[flight_of(fetch->key.hash, fetch->is_home)] = fetch;
  fetch->began = now;
  fetch->since = purges_.position();
  fetch->look_at = now + kLook_min;
  look_at_ = std::min(look_at_, fetch->look_at);
  waiting_for_host_.push_back(fetch);
  return true;
}

void Outbound::look_for_flights(Instant now, Actions& out) {
  look_at_ = kNever;
  for (std::shared_ptr<Fetch>& fetch : std::exchange(waiting_for_host_, {})) {
    if (fetch->look_at <= now) {
      const bool has_time = now - fetch->began < patience(fetch->budget);
      const bool is_wanted = !fetch->waiters.empty();
      if (!is_wanted) forget(fetch);
      if (!is_wanted || !has_time || !is_on_its_way(*fetch, now)) {
        held_bytes_ -= fetch->payload.body.size();
        if (!is_wanted) continue;
        renew_leases(fetch->service, now, out);  // it may have taken longer than they last
        validate(fetch, now);
        continue;
      }
      fetch->look_at = now + std::clamp((now - fetch->began) / 8, kLook_min, kLook_max);
    }
    look_at_ = std::min(look_at_, fetch->look_at);
    waiting_for_host_.push_back(std::move(fetch));
  }
  go_on_validating(now, out);
}

}  // namespace mesh::proxy
