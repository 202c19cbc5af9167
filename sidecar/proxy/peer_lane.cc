#include "sidecar/proxy/peer_lane.h"

#include <algorithm>
#include <utility>

namespace mesh::proxy {

PeerLane::PeerLane(SessionHost& host, LinkObserver& observer, Counters& counters, const PeerConfig& config,
                   PeerIndex peer, wire::Hello own, Prng& prng)
    : host_(host),
      observer_(observer),
      counters_(counters),
      config_(config),
      peer_(peer),
      own_(std::move(own)),
      prng_(prng) {
  // 1 Gbit/s are 8 ns per byte. A link inside one computer has no time per byte worth saving.
  const bool is_free = config_.endpoint.is_loopback();
  const double ns_per_byte = is_free ? 0 : 8000.0 / std::max(config_.bandwidth_mbps, 0.001);
  own_.link_ns_per_kib = static_cast<uint32_t>(std::min(ns_per_byte * 1024, 4e9));
  own_.compression = is_free && config_.compression == wire::CompressionMode::kAuto ? wire::CompressionMode::kNever
                                                                                    : config_.compression;
}

void PeerLane::send(SendToPeer call) {
  if (!std::exchange(scheduled_, true)) host_.call_at_turn_end(*this);
  queued_bytes_ += call.payload.body.size();
  leave_at_ = std::min(leave_at_, call.leave_by);
  company_ = std::min<size_t>(company_, call.linger_count);
  queue_.push_back(std::move(call));
  ensure_link();
  if (queued_bytes_ >= limits::flush_at_once_bytes) on_turn_ending();
}

void PeerLane::ensure_link() {
  if (link_ || waiting_to_dial_) return;
  LinkSettings settings{.label = "peer:" + config_.host + "/" + config_.sidecar, .own = own_, .lane = this};
  settings.compression = own_.compression;
  settings.link_ns_per_byte = own_.link_ns_per_kib / 1024.0;
  auto link = std::make_unique<LinkSession>(host_, observer_, counters_, std::move(settings));
  link_ = link.get();
  host_.admit(std::move(link));
  link_->dial(config_.endpoint);
}

void PeerLane::dial_now() {
  if (waiting_to_dial_) on_time(host_.now());
}

void PeerLane::on_up() {
  backoff_.reset();
  link_->set_busy(!queue_.empty());
  host_.call_at_turn_end(*this);
}

bool PeerLane::lingers(Instant now) const {
  return !queue_.empty() && now < leave_at_ && queue_.size() < company_ && queued_bytes_ < limits::flush_at_once_bytes;
}

// The queue keeps calls as they are until they can leave, so that what travels is the time left then.
void PeerLane::on_turn_ending() {
  scheduled_ = false;
  if (!link_ || !link_->up()) return;
  Instant now = host_.now();
  if (lingers(now)) return host_.set_deadline(*this, leave_at_);
  queued_bytes_ = 0;
  while (!queue_.empty() && !link_->congested()) {
    batch_calls_.clear();
    left_.clear();
    while (!queue_.empty() && link_->batch_bytes() < limits::flush_at_once_bytes) {
      SendToPeer& call = queue_.front();
      const Duration left = call.deadline - now;
      if (left <= Duration{0}) {
        expired_.push_back(call.call_id);
        queue_.pop_front();
        continue;
      }
      if (call.key && (link_->peer().features & wire::kFeatureKeys) == 0) {
        refused_.push_back(call.call_id);
        queue_.pop_front();
        continue;
      }
      if (!batch_calls_.empty() && !link_->fits(call.payload.body.size())) break;
      const Duration margin = std::min<Duration>(milliseconds(limits::hop_margin_ms), left / 10);
      const int64_t budget_us = std::max<int64_t>(1, to_us(left - margin));
      left_.push_back(
          {call.call_id, std::max<int64_t>(0, to_us(std::min(now, call.leave_by) - call.queued_at)), budget_us});
      put(call, static_cast<uint64_t>(budget_us));
      batch_calls_.push_back(call.call_id);
      queue_.pop_front();
    }
    outstanding_ += batch_calls_.size();
    const uint64_t end = link_->seal();
    now = host_.now();  // later, if it was compressed
    if (!left_.empty()) observer_.on_calls_left({link_->sealed(), left_});
    link_->on_turn_ending();
    if (link_->handed_bytes() < end) leaving_.push_back({end, batch_calls_});
  }
  while (!leaving_.empty() && leaving_.front().end <= link_->handed_bytes()) leaving_.pop_front();
  if (queue_.empty()) {
    leave_at_ = kNever;
    company_ = SIZE_MAX;
  }
  link_->set_busy(outstanding_ > 0);
  for (const uint64_t call_id : std::exchange(refused_, {})) observer_.on_peer_lacks_keys(*this, call_id);
}

void PeerLane::put(SendToPeer& call, uint64_t budget_us) {
  wire::Delivery delivery;
  const bool is_plain = call.attempt == 1 && !call.is_sensitive && call.knowledge == 0 && !call.key;
  if (!is_plain) [[unlikely]] {
    delivery = {.attempt = call.attempt, .is_sensitive = call.is_sensitive, .knowledge = call.knowledge};
    if (call.key) delivery.key = call.key->key, delivery.caller = call.key->caller;
  }
  link_->put({.kind = wire::Kind::kRequest,
              .call_id = call.call_id,
              .service = call.service,
              .method = call.method,
              .budget_us = budget_us,
              .priority = call.priority,
              .body = std::move(call.payload.body),
              .part_sizes = std::move(call.payload.part_sizes),
              .delivery = is_plain ? nullptr : &delivery});
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
  if (std::exchange(waiting_to_dial_, false)) {
    if (!queue_.empty()) ensure_link();
  } else {
    on_turn_ending();  // they have waited for company long enough
  }
}

}  // namespace mesh::proxy
