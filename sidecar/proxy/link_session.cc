#include "sidecar/proxy/link_session.h"

#include <algorithm>
#include <string>
#include <utility>

#include "sidecar/proxy/peer_lane.h"

namespace mesh::proxy {

LinkSession::LinkSession(SessionHost& host, LinkObserver& observer, Counters& counters, LinkSettings settings)
    : host_(host),
      observer_(observer),
      counters_(counters),
      settings_(std::move(settings)),
      message_(host, *this, limits::link_pace_bytes_per_s) {
  if (settings_.compression != wire::CompressionMode::kNever) {
    compressor_.emplace(settings_.compression, settings_.link_ns_per_byte);
  }
}

void LinkSession::adopt(std::unique_ptr<Stream> stream) {
  stream_ = std::move(stream);
  begin();
}

void LinkSession::dial(const Endpoint& endpoint) {
  stream_ = host_.transport().connect(endpoint, *this);
  host_.set_deadline(*this, host_.now() + milliseconds(limits::handshake_ms));
}

void LinkSession::begin() {
  const zmtp::SocketType own = settings_.lane != nullptr ? zmtp::SocketType::kDealer : zmtp::SocketType::kRouter;
  const zmtp::SocketType other = settings_.lane != nullptr ? zmtp::SocketType::kRouter : zmtp::SocketType::kDealer;
  connection_.emplace(zmtp::Settings{.own_type = own, .accepted_peers = {other}, .identity = {}}, stream_->out(),
                      host_.now());
  heard_at_ = host_.now();
  if (settings_.lane != nullptr) used_at_ = heard_at_;
  host_.set_deadline(*this, connection_->next_deadline());
  stream_->flush_later();
}

void LinkSession::on_connected() { begin(); }

std::span<uint8_t> LinkSession::read_target() { return ended_ ? std::span<uint8_t>() : connection_->read_target(); }

void LinkSession::on_target_filled(size_t count) {
  if (ended_) return;
  received_bytes_ += count;
  connection_->commit(count, host_.now());
  receive();
}

void LinkSession::on_bytes(Slice bytes) {
  if (ended_) return;
  received_bytes_ += bytes.size();
  connection_->feed(std::move(bytes), host_.now());
  receive();
}

void LinkSession::receive() {
  heard_at_ = host_.now();
  ping_open_ = false;
  while (!ended_) {
    auto message = connection_->next();
    if (!message) return refuse(message.error());
    if (connection_->ready() && !hello_sent_) {
      hello_sent_ = true;
      put({.kind = wire::Kind::kHello, .hello = &settings_.own});
    }
    if (*message == nullptr) break;
    if (!receive_batch((*message)->frames())) return;
  }
  if (ended_) return;
  // Whom we dialed is known by the configuration, and needs no room.
  message_.look(connection_->unfinished_bytes(), settings_.lane != nullptr ? 0 : connection_->declared_bytes(),
                received_bytes_);
  if (message_.waits()) stream_->pause_reading();
  if (up_ && message_.next_deadline() < armed_) arm();
  if (stream_->out().empty()) return;
  stream_->flush_later();
  // Who asks must take the answers. Whoever we asked is read from, also while a large request of ours is under way.
  if (settings_.lane != nullptr) return;
  // on_drained() comes only if the kernel refused some of it: so offer it first.
  if (stream_->unsent_bytes() > limits::stream_high_water_bytes) stream_->flush();
  if (stream_->unsent_bytes() > limits::stream_high_water_bytes) stream_->pause_reading();
}

void LinkSession::on_room() {
  message_.admit(received_bytes_);
  arm();
  read_on();
}

void LinkSession::read_on() {
  if (!message_.waits() && !congested_) stream_->resume_reading();
}

bool LinkSession::receive_batch(std::span<const Slice> frames) {
  counters_.add(Counter::kBatchesReceived);
  decompress_us_ = 0;
  // Only where something may be inflated the clock is read more than once a turn.
  const bool timed = wire::BatchDecoder::may_inflate(frames);
  Instant before = timed ? host_.transport().refresh() : Instant();
  const auto spend = [&] {
    if (!timed) return;
    const Instant after = host_.transport().refresh();
    if (decoder_.shape().is_zstd) decompress_us_ += static_cast<uint32_t>(to_us(after - before));
    before = after;
  };
  if (auto begun = decoder_.begin(frames); !begun) {
    refuse(begun.error());
    return false;
  }
  spend();
  while (!ended_) {
    if (timed) before = host_.now();
    auto envelope = decoder_.next();
    if (!envelope) {
      refuse(envelope.error());
      return false;
    }
    if (*envelope == nullptr) return true;
    if (!(*envelope)->body.empty()) spend();
    counters_.add(Counter::kEnvelopesReceived);
    if (!receive_envelope(**envelope)) return false;
  }
  return false;
}

bool LinkSession::receive_envelope(const wire::Envelope& envelope) {
  const auto refuse = [this](std::string rule, std::string text) {
    this->refuse(rule_broken(Code::kInvalid, std::move(rule), std::move(text)));
    return false;
  };
  if (!up_) {
    if (envelope.kind != wire::Kind::kHello || envelope.hello == nullptr) {
      return refuse("hello_missing", "the peer did not begin with hello");
    }
    if (envelope.hello->version != wire::kVersion) {
      return refuse("wire_version", "the peer speaks wire version " + std::to_string(envelope.hello->version) +
                                        ", this sidecar " + std::to_string(wire::kVersion));
    }
    peer_ = *envelope.hello;
    up_ = true;
    if (settings_.lane == nullptr) {
      host_.on_handshake_ended();
      if (peer_.compression != wire::CompressionMode::kNever) {
        compressor_.emplace(peer_.compression, peer_.link_ns_per_kib / 1024.0);
      }
    }
    if ((peer_.features & wire::kFeatureZstd) == 0) compressor_.reset();
    arm();
    observer_.on_link_up(*this, peer_);
    return true;
  }
  switch (envelope.kind) {
    case wire::Kind::kHello:
      return refuse("hello_twice", "the peer said hello twice");
    case wire::Kind::kPing:
      if (!idle_talk_.take(host_.now())) return refuse("ping_flood", "the peer pings more than any heartbeat needs");
      put({.kind = wire::Kind::kPong, .call_id = envelope.call_id});
      // A heart beats slower: what else comes of a ping does not come of each.
      if (host_.now() < attend_at_) return true;
      attend_at_ = host_.now() + milliseconds(limits::heartbeat_busy_ms / 2);
      observer_.on_link_pinged(*this);
      return true;
    case wire::Kind::kPong:
      if (std::exchange(awaits_farewell_, false)) return true;
      // An accepted link asks for none.
      if (settings_.lane == nullptr && !idle_talk_.take(host_.now())) {
        return refuse("pong_flood", "the peer answers pings that nobody sent");
      }
      return true;
    case wire::Kind::kRequest:
      if (settings_.lane != nullptr) return refuse("request_unexpected", "requests come from those who dialed");
      if (!open_calls_.insert(envelope.call_id)) return refuse("call_id_twice", "two open calls have the same id");
      break;
    case wire::Kind::kReply:
      if (settings_.lane == nullptr) return refuse("reply_unexpected", "nothing was asked on this connection");
      break;
    case wire::Kind::kCancel:
      if (settings_.lane != nullptr) return refuse("cancel_unexpected", "nothing was asked on this connection");
      // One that crossed its reply is honest.
      if (!open_calls_.contains(envelope.call_id) && !idle_talk_.take(host_.now())) {
        return refuse("cancel_flood", "the peer cancels more than it asked");
      }
      open_calls_.erase(envelope.call_id);
      break;
    case wire::Kind::kDraining:
      if (!idle_talk_.take(host_.now())) return refuse("draining_flood", "the peer says the same again and again");
      break;
    case wire::Kind::kLease:
      if (settings_.lane != nullptr) return refuse("lease_unexpected", "leases are asked for by those who dialed");
      if (!idle_talk_.take(host_.now())) return refuse("lease_flood", "the peer asks for leases again and again");
      break;
    case wire::Kind::kLeased:
      if (settings_.lane == nullptr) return refuse("leased_unexpected", "no lease was asked for on this connection");
      break;
    case wire::Kind::kStanding:
      if (settings_.lane == nullptr) return refuse("standing_unexpected", "nothing is asked of whoever dialed");
      observer_.on_envelope(*this, envelope);
      return true;  // it comes with each pong: nobody has used the link
    case wire::Kind::kPurge:
      if (settings_.lane == nullptr && !idle_talk_.take(host_.now())) {
        return refuse("purge_flood", "the peer purges more than anybody keeps");
      }
      break;
    case wire::Kind::kPurged:
      if (settings_.lane == nullptr && unheard_purges_ == 0) {
        return refuse("purged_unexpected", "the peer was told of no purge");
      }
      if (unheard_purges_ > 0) --unheard_purges_;
      break;
  }
  used_at_ = host_.now();
  observer_.on_envelope(*this, envelope);
  return true;
}

void LinkSession::put(const wire::Envelope& envelope) {
  if (!batch_.fits(envelope.body.size())) seal();
  if (batch_.empty()) host_.call_at_turn_end(*this);
  batch_.add(envelope);
  counters_.add(Counter::kEnvelopesSent);
  if (envelope.kind == wire::Kind::kPurge) ++unheard_purges_;
  // A lane seals for itself: it must know which call left in which batch.
  if (settings_.lane == nullptr && batch_.bytes() >= limits::flush_at_once_bytes && !congested()) {
    seal();
    stream_->flush();
  }
}

void LinkSession::say_draining() {
  put({.kind = wire::Kind::kDraining});
  ask_if_heard();
}

void LinkSession::ask_if_heard() {
  put({.kind = wire::Kind::kPing, .call_id = 0});
  awaits_farewell_ = true;
}

uint64_t LinkSession::seal() {
  if (!batch_.empty() && !ended_) {
    counters_.add(Counter::kBatchesSent);
    holds_large_ = batch_.bytes() > limits::batch_bytes / 2;
    const bool timed = compressor_ && batch_.bytes() >= limits::compress_bytes_min;
    const Instant before = timed ? host_.transport().refresh() : Instant();
    const auto frames = batch_.seal(compressor_ ? &*compressor_ : nullptr);
    if (batch_.wants_sealing_time()) {
      batch_.set_sealing_time(static_cast<uint32_t>(to_us(host_.transport().refresh() - before)));
    }
    connection_->send(frames);
  }
  return stream_->handed_bytes() + stream_->out().bytes();
}

void LinkSession::on_turn_ending() {
  if (ended_ || !connection_ || !connection_->ready()) return;
  seal();
  stream_->flush();
  // The encoder keeps its last frames for reuse, which pays for small ones.
  if (std::exchange(holds_large_, false)) batch_.shrink();
  // The other end does not read its replies: take no more requests from it.
  if (settings_.lane == nullptr && stream_->unsent_bytes() > limits::stream_high_water_bytes) {
    stream_->pause_reading();
    host_.judge_idle_bytes();
  }
}

void LinkSession::on_congested() {
  if (ended_) return;
  congested_ = true;
  stall_.begin(stream_->accepted_bytes(), host_.now());
  if (up_) arm();
}

void LinkSession::on_drained() {
  if (ended_) return;
  congested_ = false;
  stall_.end();
  read_on();
  host_.call_at_turn_end(*this);
  if (settings_.lane != nullptr) host_.call_at_turn_end(*settings_.lane);
}

Session::Worth LinkSession::worth(Instant now) const {
  const bool has_business =
      open_calls_.size() > 0 || connection_->unfinished_bytes() > 0 || stream_->unsent_bytes() > 0;
  if (has_business || !up_) return Worth::kMuch;
  if (used_at_ == kNever) return Worth::kNothing;
  return now - used_at_ < milliseconds(limits::link_idle_close_ms) ? Worth::kMuch : Worth::kLittle;
}

void LinkSession::refuse(const Error& error) {
  if (ended_) return;
  host_.report(settings_.label, error);
  stream_->flush();  // the peer may still read why
  on_closed(error.text);
}

void LinkSession::on_closed(std::string_view reason) {
  if (ended_) return;
  ended_ = true;
  stream_->abandon();
  message_.end();
  host_.set_deadline(*this, kNever);
  if (settings_.lane == nullptr && !up_) host_.on_handshake_ended();
  observer_.on_link_closed(*this, reason);
}

void LinkSession::set_busy(bool busy) {
  if (busy == busy_) return;
  busy_ = busy;
  used_at_ = host_.now();
  if (up_ && !ended_) arm();
}

// A ping behind a large body on a slow link: as long as the other end takes in what is before it, it lives.
bool LinkSession::ping_is_under_way() {
  constexpr uint64_t kWorthWaiting = 4 * limits::KiB;
  const uint64_t acknowledged = stream_->acknowledged_bytes();
  const bool moves = acknowledged > std::exchange(acknowledged_bytes_, acknowledged);
  return moves && ping_waits_behind_ > kWorthWaiting;
}

size_t LinkSession::idle_bytes(Instant now, Duration& motionless) {
  if (!stream_ || ended_) return 0;
  motionless = stall_.look(stream_->accepted_bytes(), now);
  return stream_->unsent_bytes();
}

void LinkSession::arm() {
  armed_ = next_deadline();
  host_.set_deadline(*this, armed_);
}

Instant LinkSession::next_deadline() const {
  return std::min({heartbeat_at(), stall_.next_deadline(), message_.next_deadline()});
}

// The dialing side asks; the accepting side only waits long enough to know that nobody asks any more.
Instant LinkSession::heartbeat_at() const {
  if (settings_.lane == nullptr)
    return heard_at_ + 2 * milliseconds(limits::heartbeat_idle_ms) + milliseconds(limits::heartbeat_dead_ms);
  if (ping_open_) return pinged_at_ + milliseconds(limits::heartbeat_dead_ms - limits::heartbeat_busy_ms);
  return heard_at_ + milliseconds(busy_ ? limits::heartbeat_busy_ms : limits::heartbeat_idle_ms);
}

void LinkSession::on_time(Instant now) {
  if (ended_) return;
  if (!up_) {
    return refuse(rule_broken(Code::kDeadline, "handshake_timeout", "the peer did not finish the handshake in time"));
  }
  // One that we dialed may wait for room, and says so by its pings.
  const bool is_heard = settings_.lane != nullptr && now - heard_at_ < milliseconds(limits::heartbeat_dead_ms);
  if (stall_.is_stalled(stream_->accepted_bytes(), now) && !is_heard) {
    return refuse(rule_broken(Code::kOverloaded, "reader_stalled", "the peer does not read what it asked for"));
  }
  if (const auto error = message_.judge(stream_->is_reading(), received_bytes_, now)) return refuse(*error);
  // It cannot be heard behind its own message that is not read, and is to know that somebody is here.
  if (message_.waits() && now - pinged_at_ >= milliseconds(limits::heartbeat_busy_ms)) {
    pinged_at_ = now;
    put({.kind = wire::Kind::kPing, .call_id = 0});
  }
  if (batch_.empty()) batch_.shrink();  // quiet for a while: what was sent last need not be held
  if (now >= heartbeat_at()) {
    if (settings_.lane == nullptr) return on_closed("the peer is silent");
    if (ping_open_) {
      if (!ping_is_under_way()) return on_closed("the peer is silent");
      pinged_at_ = now;
      return arm();
    }
    if (!busy_ && now - used_at_ >= milliseconds(limits::link_idle_close_ms)) return on_closed("idle");
    put({.kind = wire::Kind::kPing, .call_id = static_cast<uint64_t>(to_us(now.time_since_epoch()))});
    ping_open_ = true;
    pinged_at_ = now;
    acknowledged_bytes_ = stream_->acknowledged_bytes();
    ping_waits_behind_ = stream_->handed_bytes() + stream_->out().bytes() - acknowledged_bytes_;
  }
  arm();
}

}  // namespace mesh::proxy
