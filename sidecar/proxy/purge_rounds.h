// Telling all who may keep replies of this sidecar's agents that some became wrong, and knowing when they know.
//
// A round is over when each who was told has answered, or his lease has run out: from then on nobody gives what it
// named. What has to wait for that, the reply to whoever made it wrong above all, waits with the round.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "sidecar/proxy/events.h"

namespace mesh::proxy {

class PurgeRounds {
 public:
  // The first position is one that no process before had, and so is the first round: a late answer to that one's is
  // none to this one's. Those to whom it gave leases may still hold them.
  void begin(uint64_t position, Instant now);

  // Who asks with token 0 gives his lease back.
  void on(const LeaseAsked& event, Instant now, Actions& out);
  void on(const PurgeHeard& event);

  // Begins a round and gives its number; 0 if there is nobody to wait for. That a connection ended ends no lease: who
  // held it may not know.
  // With `erases` it also waits until on_erased() is told its number, though not for long.
  uint64_t purge(std::span<const uint64_t> names, bool is_relayed, bool erases, Instant now, Actions& out);
  // It is gone from the disk.
  void on_erased(uint64_t round);

  // How often something was made wrong, from where it began.
  uint64_t position() const { return position_; }
  bool empty() const { return rounds_.empty(); }
  // All that became wrong, here or with the process before, nobody gives any more.
  bool is_quiet(Instant now) const { return rounds_.empty() && quiet_until_ <= now; }
  bool is_open(uint64_t round) const { return rounds_.contains(round); }
  Instant next_deadline() const;
  // Ends the rounds that wait for nobody any more, and appends their numbers.
  void take_ended(Instant now, std::vector<uint64_t>& ended);

 private:
  struct Waited {
    LinkId link;
    Instant until;
  };
  struct Round {
    std::vector<Waited> unheard;
    Instant erased_by;  // so long the disk is waited for; in the past: not, or no more
    Instant until;      // the last that it waits for ends
  };

  void wait_no_longer_for(LinkId link, Round& round) const;

  uint64_t position_ = 0;
  uint64_t last_round_ = 0;
  Instant quiet_until_{};  // leases of the process before have run out
  std::unordered_map<LinkId, Instant> holders_;
  std::unordered_map<uint64_t, Round> rounds_;
};

}  // namespace mesh::proxy
