// Purges that were ordered at this sidecar, and who has not confirmed them yet.
//
// A product recall: each shop that sells the thing is written to and has to sign that it is off the shelves. Whoever
// cannot be reached, or does not sign in time, is named to the one who called it back; silence is never a signature.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "common/base/limits.h"
#include "common/base/token_bucket.h"
#include "sidecar/proxy/events.h"

namespace mesh::proxy {

class PurgeOrders {
 public:
  explicit PurgeOrders(size_t peers) : peers_(peers) {}

  // This sidecar itself, among those who confirm.
  static constexpr PeerIndex kOwn = UINT32_MAX;
  enum class Doubt : uint8_t { kNone, kUnreachable, kSilent, kTooOld };
  struct Answer {
    PeerIndex peer;
    Doubt doubt;  // kNone: it has confirmed
  };
  struct Ended {
    uint64_t order;
    std::vector<Answer> answers;
  };

  // False if there are too many, or they come too fast.
  bool takes_more(Instant now) { return orders_.size() < limits::purge_orders_max && pace_.take(now); }
  // Who does not confirm until then does not. Its number is never 0 and never used twice.
  uint64_t open(Instant until);
  // Of an open order: a peer is asked to purge, or what was asked of this sidecar's own agents is waited for.
  void ask(uint64_t order, PeerIndex peer, std::vector<uint64_t> names, Instant now, Actions& out);
  void wait_for_own(uint64_t order) { add(order, {.token = 0, .peer = kOwn, .is_sent = true}); }

  void on_own_purged(uint64_t order) { answer(order, kOwn, 0, Doubt::kNone); }
  void on(const PurgeConfirmed& event);
  void on_connected(PeerIndex peer, bool offers_leases, Actions& out);
  void on_lost(PeerIndex peer, Instant now, Actions& out);

  size_t size() const { return orders_.size(); }
  bool empty() const { return orders_.empty(); }
  Instant next_deadline() const { return orders_.empty() ? kNever : earliest(); }
  void on_time(Instant now, Actions& out);
  // Takes those out that wait for nobody any more.
  std::vector<Ended> take_ended();

 private:
  struct Ask {
    uint64_t token = 0;
    PeerIndex peer = 0;
    std::vector<uint64_t> names{};
    bool is_sent = false;
    Instant connect_until = kNever;
  };
  struct Order {
    Instant until{};
    std::vector<Ask> open{};
    std::vector<Answer> answers{};
  };
  struct Peer {
    bool is_up = false;
    bool offers_leases = false;
  };
  Instant earliest() const;
  void add(uint64_t order, Ask ask) { orders_.at(order).open.push_back(std::move(ask)); }
  void answer(uint64_t order, PeerIndex peer, uint64_t token, Doubt doubt);
  static void note(Order& order, PeerIndex peer, Doubt doubt);
  // The doubt, if it cannot be sent ever.
  Doubt send(Ask& ask, Actions& out) const;
  void wait_for_connection(Ask& ask, Instant now, Actions& out);

  std::vector<Peer> peers_;
  TokenBucket pace_{limits::purge_orders_per_second, limits::purge_orders_per_second};
  uint64_t last_order_ = 0;
  uint64_t last_token_ = 0;
  Instant redial_at_ = kNever;
  std::unordered_map<uint64_t, Order> orders_;
};

}  // namespace mesh::proxy
