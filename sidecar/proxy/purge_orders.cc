#include "sidecar/proxy/purge_orders.h"

#include <algorithm>
#include <utility>

namespace mesh::proxy {

uint64_t PurgeOrders::open(Instant until) {
  orders_[++last_order_].until = until;
  return last_order_;
}

void PurgeOrders::ask(uint64_t order, PeerIndex peer, std::vector<uint64_t> names, Instant now, Actions& out) {
  Ask ask{.token = ++last_token_, .peer = peer, .names = std::move(names)};
  if (!peers_[peer].is_up) {
    wait_for_connection(ask, now, out);
  } else if (const Doubt doubt = send(ask, out); doubt != Doubt::kNone) {
    return note(orders_.at(order), peer, doubt);
  }
  add(order, std::move(ask));
}

PurgeOrders::Doubt PurgeOrders::send(Ask& ask, Actions& out) const {
  if (!peers_[ask.peer].offers_leases) return Doubt::kTooOld;
  ask.is_sent = true;
  ask.connect_until = kNever;
  out.push_back(AskPurge{ask.peer, ask.token, ask.names});
  return Doubt::kNone;
}

void PurgeOrders::wait_for_connection(Ask& ask, Instant now, Actions& out) {
  ask.is_sent = false;
  ask.connect_until = now + milliseconds(limits::connect_wait_ms);
  redial_at_ = std::min(redial_at_, now + milliseconds(limits::reconnect_min_ms));
  out.push_back(DialPeer{ask.peer});
}

// Who was asked in several parts has confirmed if he has confirmed each.
void PurgeOrders::note(Order& order, PeerIndex peer, Doubt doubt) {
  for (Answer& known : order.answers) {
    if (known.peer != peer) continue;
    if (doubt != Doubt::kNone) known.doubt = doubt;
    return;
  }
  order.answers.push_back({peer, doubt});
}

void PurgeOrders::answer(uint64_t order, PeerIndex peer, uint64_t token, Doubt doubt) {
  const auto found = orders_.find(order);
  if (found == orders_.end()) return;
  auto& open = found->second.open;
  const auto ask =
      std::find_if(open.begin(), open.end(), [&](const Ask& each) { return each.peer == peer && each.token == token; });
  if (ask == open.end()) return;
  open.erase(ask);
  note(found->second, peer, doubt);
}

// One that was not asked for, or of what was ended, says nothing.
void PurgeOrders::on(const PurgeConfirmed& event) {
  for (const auto& [number, order] : orders_) {
    for (const Ask& ask : order.open) {
      if (ask.peer == event.peer && ask.token == event.token) {
        return answer(number, event.peer, event.token, Doubt::kNone);
      }
    }
  }
}

void PurgeOrders::on_connected(PeerIndex peer, bool offers_leases, Actions& out) {
  peers_[peer] = {.is_up = true, .offers_leases = offers_leases};
  for (auto& [number, order] : orders_) {
    std::erase_if(order.open, [&, &order = order](Ask& ask) {
      if (ask.peer != peer || ask.is_sent) return false;
      const Doubt doubt = send(ask, out);
      if (doubt != Doubt::kNone) note(order, peer, doubt);
      return doubt != Doubt::kNone;
    });
  }
}

// To purge twice does no harm, so whoever was asked and has not confirmed is asked again.
void PurgeOrders::on_lost(PeerIndex peer, Instant now, Actions& out) {
  if (!std::exchange(peers_[peer].is_up, false)) return;
  for (auto& [number, order] : orders_) {
    for (Ask& ask : order.open) {
      if (ask.peer == peer) wait_for_connection(ask, now, out);
    }
  }
}

Instant PurgeOrders::earliest() const {
  Instant next = redial_at_;
  for (const auto& [number, order] : orders_) {
    next = std::min(next, order.until);
    for (const Ask& ask : order.open) next = std::min(next, ask.connect_until);
  }
  return next;
}

void PurgeOrders::on_time(Instant now, Actions& out) {
  const bool redials = redial_at_ <= now;
  if (redials) redial_at_ = kNever;
  for (auto& [number, order] : orders_) {
    std::erase_if(order.open, [&, &order = order](const Ask& ask) {
      const bool is_over = order.until <= now || ask.connect_until <= now;
      if (is_over) {
        note(order, ask.peer, ask.is_sent ? Doubt::kSilent : Doubt::kUnreachable);
      } else if (redials && !ask.is_sent) {
        redial_at_ = now + milliseconds(limits::reconnect_min_ms);
        out.push_back(DialPeer{ask.peer});
      }
      return is_over;
    });
  }
}

std::vector<PurgeOrders::Ended> PurgeOrders::take_ended() {
  std::vector<Ended> ended;
  for (auto order = orders_.begin(); order != orders_.end();) {
    if (!order->second.open.empty()) {
      ++order;
      continue;
    }
    ended.push_back({order->first, std::move(order->second.answers)});
    order = orders_.erase(order);
  }
  return ended;
}

}  // namespace mesh::proxy
