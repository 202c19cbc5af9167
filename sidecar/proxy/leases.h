// Until when kept replies may be given without hearing from those who know when they become wrong.
//
// A newspaper subscription: whoever subscribes is sent every correction, and each issue is numbered. As long as the
// subscription runs, no news is good news. When it has lapsed one subscribes again, and the number of the issue tells
// whether something was missed: then all that was clipped before is thrown away. (After Gray and Cheriton, "Leases: an
// efficient fault-tolerant mechanism for distributed file cache consistency", SOSP 1989.)
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "common/base/limits.h"
#include "common/cache/purges.h"
#include "common/cache/shared_tier.h"
#include "sidecar/proxy/events.h"

namespace mesh::proxy {

// Of this sidecar, from each peer.
class Leases {
 public:
  // `purges` must outlive this, and so must `shared`, which may be null: what this host's sidecars know together. They
  // share what they know of a peer only where `views` of it are the same: who missed something throws away what he
  // knows that it concerns, and nothing else.
  Leases(std::span<const uint64_t> views, cache::Purges& purges, cache::SharedTier* shared);

  // Replies of the peer's agents are being asked for: subscribes anew where that is due, before what is asked next.
  void want(PeerIndex peer, Instant now, Actions& out);
  // Nothing is given any more.
  void give_back(Actions& out);
  bool holds(PeerIndex peer, Instant now) const { return now < leases_[peer].until; }
  // An answer is on its way.
  bool is_asked(PeerIndex peer) const { return leases_[peer].is_asked; }
  // What was fetched since a position of purges() was asked of the peer behind the question for the lease, so it is not
  // executed without one, which then still runs.
  bool precedes_fetch(PeerIndex peer, uint64_t since, Instant now) const {
    const Lease& lease = leases_[peer];
    return lease.is_asked && since >= lease.mark && now < until_if_asked_at(lease.asked_at);
  }
  // Such a position for what is asked of the peer now, but not behind that question: on another connection it may be
  // executed before it, so if something was missed by then it is wrong, too.
  uint64_t before_question(PeerIndex peer, uint64_t since) const {
    const Lease& lease = leases_[peer];
    return lease.is_asked || lease.is_wanted ? std::min(since, lease.mark - 1) : since;
  }
  // Up to where all that the peer makes wrong is purged here; nothing if that is not known, or more is being purged.
  std::optional<uint64_t> position(PeerIndex peer) const {
    const Lease& lease = leases_[peer];
    if (lease.host) {
      const auto known = lease.host->known();
      return lease.host->noting() == known ? known : std::nullopt;
    }
    return lease.is_known ? std::optional(lease.position) : std::nullopt;
  }
  // The peer's version tells what becomes wrong; without that nothing that comes from it may be kept.
  bool is_offered(PeerIndex peer) const { return leases_[peer].is_offered; }

  void on_connected(PeerIndex peer, bool is_offered, Instant now, Actions& out);
  void on_lost(PeerIndex peer);
  // A position of purges(): of what began before it the peer's services' replies are wrong. Nothing if nothing was
  // missed, or the answer is of an earlier question.
  std::optional<uint64_t> on_leased(const PeerLeased& event);
  // Likewise; the names in the event are the caller's affair, and when they are purged here, settle() is due.
  std::optional<uint64_t> on_purged(const PeerPurged& event);
  // All that the peer told is purged here: so this host knows of it.
  void settle(PeerIndex peer);

 private:
  struct Lease {
    bool is_up = false;
    bool is_offered = false;
    bool is_wanted = false;  // when it is up
    bool is_asked = false;
    bool is_known = false;               // position, by this process
    std::optional<cache::Witness> host;  // what its host knows
    uint64_t token = 0;                  // of the question
    uint64_t mark = 0;                   // what is fetched behind it, is fetched by one who is told
    uint64_t position = 0;               // of the peer's purges, all of which are known here
    Instant asked_at{};
    Instant until{};
    Instant dial_again_at{};
  };
  static Instant until_if_asked_at(Instant asked_at) {
    return asked_at + milliseconds(limits::lease_ms - limits::lease_margin_ms);
  }
  void ask(PeerIndex peer, Instant now, Actions& out);
  void dial(PeerIndex peer, Instant now, Actions& out);
  static bool has_heard_of(const Lease& lease, uint64_t position);
  static bool reaches(std::optional<uint64_t> up_to, uint64_t position);
  static void begin_noting(Lease& lease);

  std::vector<Lease> leases_;
  cache::Purges& purges_;
  bool is_shared_;  // and what is kept as well
  uint64_t last_token_ = 0;
};

}  // namespace mesh::proxy
