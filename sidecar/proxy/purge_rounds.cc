#include "sidecar/proxy/purge_rounds.h"

#include <algorithm>
#include <memory>

#include "common/base/limits.h"

namespace mesh::proxy {

void PurgeRounds::begin(uint64_t position, Instant now) {
  position_ = position;
  last_round_ = position;
  quiet_until_ = now + milliseconds(limits::lease_ms);
}

void PurgeRounds::wait_no_longer_for(LinkId link, Round& round) const {
  std::erase_if(round.unheard, [link](const Waited& waited) { return waited.link == link; });
  round.until = std::max(quiet_until_, round.erased_by);
  for (const Waited& waited : round.unheard) round.until = std::max(round.until, waited.until);
}

void PurgeRounds::on(const LeaseAsked& event, Instant now, Actions& out) {
  if (event.token == 0) {
    holders_.erase(event.link);
    for (auto& [number, round] : rounds_) wait_no_longer_for(event.link, round);
    return;
  }
  holders_[event.link] = now + milliseconds(limits::lease_ms);
  out.push_back(GrantLease{event.link, event.token, position_});
}

void PurgeRounds::on(const PurgeHeard& event) {
  if (const auto round = rounds_.find(event.token); round != rounds_.end()) {
    wait_no_longer_for(event.link, round->second);
  }
}

void PurgeRounds::on_erased(uint64_t number) {
  const auto round = rounds_.find(number);
  if (round == rounds_.end()) return;
  round->second.erased_by = {};
  wait_no_longer_for(0, round->second);
}

uint64_t PurgeRounds::purge(std::span<const uint64_t> names, bool is_relayed, bool erases, Instant now, Actions& out) {
  ++position_;
  std::erase_if(holders_, [now](const auto& holder) { return holder.second <= now; });
  if (holders_.empty() && quiet_until_ <= now && !erases) return 0;
  const uint64_t number = ++last_round_;
  const Instant erased_by = erases ? now + milliseconds(limits::erasure_ms_max) : Instant{};
  Round round{.unheard = {}, .erased_by = erased_by, .until = std::max(quiet_until_, erased_by)};
  const auto shared = std::make_shared<const std::vector<uint64_t>>(names.begin(), names.end());
  for (const auto& [link, until] : holders_) {
    round.unheard.push_back({link, until});
    round.until = std::max(round.until, until);
    out.push_back(TellPurge{link, number, position_, is_relayed, shared});
  }
  rounds_.emplace(number, std::move(round));
  return number;
}

Instant PurgeRounds::next_deadline() const {
  Instant next = kNever;
  for (const auto& [number, round] : rounds_) next = std::min(next, round.until);
  return next;
}

void PurgeRounds::take_ended(Instant now, std::vector<uint64_t>& ended) {
  for (auto round = rounds_.begin(); round != rounds_.end();) {
    if (round->second.until > now) {
      ++round;
    } else {
      ended.push_back(round->first);
      round = rounds_.erase(round);
    }
  }
}

}  // namespace mesh::proxy
