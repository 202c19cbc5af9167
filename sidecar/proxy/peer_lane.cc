#include "sidecar/proxy/peer_lane.h"

#include <algorithm>

namespace mesh::proxy {

PeerLane::PeerLane(SessionHost& host, LinkObserver& observer, Counters& counters, const PeerConfig& config,
                   PeerIndex peer, wire::Hello own, Prng& prng)
    : host_(host),
      observer_(observer),
      counters_(counters),
      config_(config),
      peer_(peer),
      own_(std::move(own)),
      prng_(prng) {}

void PeerLane::send(SendToPeer call) {
  if (queue_.empty()) host_.call_at_turn_end(*this);
  queued_this_turn_ += call.payload.body.size();
  queue_.push_back(std::move(call));
  ensure_link();
  if (queued_this_turn_ >= limits::flush_at_once_bytes) on_turn_ending();
}

void PeerLane::ensure_link() {
  if (link_ || waiting_to_dial_) return;
  // 1 Gbit/s are 8 ns per byte. A link inside one computer has no time per byte worth saving.
  const double ns_per_byte = config_.endpoint.is_loopback() ? 0 : 8000.0 / std::max(config_.bandwidth_mbps, 0.001);
  LinkSettings settings{.label = "peer:" + config_.host + "/" + config_.sidecar,
                        .own = own_,
                        .compression = config_.compression,
                        .link_ns_per_byte = ns_per_byte,
                        .lane = this};
  auto link = std::make_unique<LinkSession>(host_, observer_, counters_, std::move(settings));
  link_ = link.get();
  host_.admit(std::move(link));
  link_->dial(config_.endpoint);
}

void PeerLane::on_up() {
  backoff_.reset();
  link_->set_busy(!queue_.empty());
  host_.call_at_turn_end(*this);
}

// The queue keeps calls as they are until they can leave, so that what travels is the time left then.
void PeerLane::on_turn_ending() {
  queued_this_turn_ = 0;
  if (!link_ || !link_->up()) return;
  const Instant now = host_.now();
  while (!queue_.empty() && !link_->congested()) {
    batch_calls_.clear();
    while (!queue_.empty() && link_->batch_bytes() < limits::flush_at_once_bytes) {
      SendToPeer& call = queue_.front();
      const Duration left = call.deadline - now;
      if (left <= Duration{0}) {
        expired_.push_back(call.call_id);
        queue_.pop_front();
        continue;
      }
      if (!batch_calls_.empty() && !link_->fits(call.payload.body.size())) break;
      const Duration margin = std::min<Duration>(milliseconds(limits::hop_margin_ms), left / 10);
      link_->put({.kind = wire::Kind::kRequest,
                  .call_id = call.call_id,
                  .service = call.service,
                  .method = call.method,
                  .budget_us = static_cast<uint64_t>(std::max<int64_t>(1, to_us(left - margin))),
                  .priority = call.priority,
                  .body = std::move(call.payload.body),
                  .part_sizes = std::move(call.payload.part_sizes)});
      batch_calls_.push_back(call.call_id);
      queue_.pop_front();
    }
    outstanding_ += batch_calls_.size();
    const uint64_t end = link_->seal();
    link_->on_turn_ending();
    if (link_->handed_bytes() < end) leaving_.push_back({end, batch_calls_});
  }
  while (!leaving_.empty() && leaving_.front().end <= link_->handed_bytes()) leaving_.pop_front();
  link_->set_busy(outstanding_ > 0);
}

void PeerLane::settle() {
  if (outstanding_ > 0) --outstanding_;
  if (outstanding_ == 0 && link_) link_->set_busy(!queue_.empty());
}

void PeerLane::cancel(uint64_t call_id) {
  const auto at =
      std::find_if(queue_.begin(), queue_.end(), [&](const SendToPeer& call) { return call.call_id == call_id; });
  if (at != queue_.end()) {
    queue_.erase(at);
    return;
  }
  if (std::erase(expired_, call_id) > 0 || !link_ || !link_->up()) return;
  link_->put({.kind = wire::Kind::kCancel, .call_id = call_id});
  settle();
}

void PeerLane::tell_draining() {
  if (link_ && link_->up()) link_->put({.kind = wire::Kind::kDraining});
}

LostCalls PeerLane::drop_link() {
  LostCalls lost;
  for (const Leaving& batch : leaving_) {
    if (batch.end > link_->handed_bytes())
      lost.not_sent.insert(lost.not_sent.end(), batch.calls.begin(), batch.calls.end());
  }
  leaving_.clear();
  lost.not_sent.insert(lost.not_sent.end(), expired_.begin(), expired_.end());
  expired_.clear();
  outstanding_ = 0;
  for (const SendToPeer& call : queue_) lost.waiting.push_back(call.call_id);
  if (!queue_.empty()) {
    waiting_to_dial_ = true;
    host_.set_deadline(*this, host_.now() + backoff_.next(prng_));
  }
  host_.retire(*link_);
  link_ = nullptr;
  return lost;
}

void PeerLane::on_time(Instant /*now*/) {
  waiting_to_dial_ = false;
  if (!queue_.empty()) ensure_link();
}

}  // namespace mesh::proxy
