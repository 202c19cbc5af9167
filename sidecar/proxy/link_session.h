// One connection between two sidecars: batches of envelopes over ZMTP, a hello each way, heartbeats.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/base/id_set.h"
#include "common/base/token_bucket.h"
#include "common/wire/batch.h"
#include "common/wire/compression.h"
#include "common/zmtp/connection.h"
#include "sidecar/proxy/counters.h"
#include "sidecar/proxy/message_watch.h"
#include "sidecar/proxy/session.h"
#include "sidecar/proxy/stall_watch.h"

namespace mesh::proxy {

class LinkSession;
class PeerLane;

class LinkObserver {
 public:
  virtual ~LinkObserver() = default;
  // The peer said who it is; from now on envelopes may be sent.
  virtual void on_link_up(LinkSession& link, const wire::Hello& hello) = 0;
  // Anything but hello, ping and pong.
  virtual void on_envelope(LinkSession& link, const wire::Envelope& envelope) = 0;
  // A lane's calls left in one batch.
  virtual void on_calls_left(const CallsLeft& left) = 0;
  // A call with a key is not sent to a peer whose version keeps none.
  virtual void on_peer_lacks_keys(PeerLane& lane, uint64_t call_id) = 0;
  virtual void on_link_closed(LinkSession& link, std::string_view reason) = 0;
  // What is put on it now leaves beside the answer. Not of each in a flood.
  virtual void on_link_pinged(LinkSession& link) = 0;
};

struct LinkSettings {
  std::string label;  // as counters and the log name it
  wire::Hello own;
  wire::CompressionMode compression = wire::CompressionMode::kNever;
  double link_ns_per_byte = 0;
  PeerLane* lane = nullptr;  // of a dialed link; null for an accepted one
};

class LinkSession final : public Session {
 public:
  // The references must outlive this.
  LinkSession(SessionHost& host, LinkObserver& observer, Counters& counters, LinkSettings settings);

  // For an accepted connection.
  void adopt(std::unique_ptr<Stream> stream);
  // For a dialed one; on_link_up or on_link_closed follows.
  void dial(const Endpoint& endpoint);

  bool up() const { return up_; }
  const std::string& label() const { return settings_.label; }
  PeerLane* lane() const { return settings_.lane; }
  const wire::Hello& peer() const { return peer_; }
  // The kernel has refused bytes: what is put now only waits longer.
  bool congested() const { return congested_; }
  bool fits(size_t body_bytes) const { return batch_.fits(body_bytes); }
  size_t batch_bytes() const { return batch_.bytes(); }
  // Adds to the batch of this turn; the batch leaves first if there is no room.
  void put(const wire::Envelope& envelope);
  // A call that came here was answered, on this connection or another.
  void close_call(uint64_t call_id) { open_calls_.erase(call_id); }
  // Sends the batch; gives the position in the stream of its last byte.
  uint64_t seal();
  // Of the batch sealed last, and of the one that is being received.
  const wire::BatchShape& sealed() const { return batch_.shape(); }
  const wire::BatchShape& received() const { return decoder_.shape(); }
  uint32_t decompress_us() const { return decompress_us_; }
  uint64_t handed_bytes() const { return stream_->handed_bytes(); }
  // Tells the peer that nothing more is accepted, and waits for its answer: what it sent before it knew comes before
  // that.
  void say_draining();
  // may_bring_more() until the peer has read all that was put before.
  void ask_if_heard();
  void wait_no_longer() { awaits_farewell_ = false; }
  // Whether calls are outstanding: then a dead peer is found out sooner.
  void set_busy(bool busy);

  void on_connected() override;
  std::span<uint8_t> read_target() override;
  void on_target_filled(size_t count) override;
  void on_bytes(Slice bytes) override;
  void on_congested() override;
  void on_drained() override;
  void on_closed(std::string_view reason) override;
  void on_time(Instant now) override;
  void on_turn_ending() override;
  void on_room() override;
  size_t unsent_bytes() const override { return stream_ ? stream_->unsent_bytes() : 0; }
  // Also one that cannot be told yet.
  bool may_bring_more() const override { return awaits_farewell_ || is_newcomer(); }
  uint64_t taken_bytes() const override { return may_bring_more() && stream_ ? stream_->acknowledged_bytes() : 0; }
  bool is_newcomer() const override { return settings_.lane == nullptr && !up_; }
  Worth worth(Instant now) const override;
  void refuse(const Error& error) override;
  size_t idle_bytes(Instant now, Duration& motionless) override;

 private:
  void begin();
  void receive();
  bool receive_batch(std::span<const Slice> frames);
  bool receive_envelope(const wire::Envelope& envelope);
  Instant next_deadline() const;
  void arm();
  Instant heartbeat_at() const;
  bool ping_is_under_way();
  void read_on();

  SessionHost& host_;
  LinkObserver& observer_;
  Counters& counters_;
  LinkSettings settings_;
  std::unique_ptr<Stream> stream_;
  std::optional<zmtp::Connection> connection_;
  wire::BatchEncoder batch_;
  wire::BatchDecoder decoder_;
  std::optional<wire::Compressor> compressor_;
  wire::Hello peer_;
  uint32_t decompress_us_ = 0;  // of the batch being received, so far
  bool hello_sent_ = false;
  bool up_ = false;
  bool ended_ = false;
  bool busy_ = false;
  bool holds_large_ = false;
  Instant heard_at_{};
  Instant pinged_at_{};
  Instant attend_at_{};  // to pings, from then on
  Instant used_at_ = kNever;
  Instant armed_ = kNever;
  bool ping_open_ = false;
  bool awaits_farewell_ = false;
  bool congested_ = false;
  uint64_t acknowledged_bytes_ = 0;  // when the ping was sent, or looked for last
  uint64_t ping_waits_behind_ = 0;   // bytes
  StallWatch stall_;                 // of what the peer is to read
  MessageWatch message_;             // of what it began to say
  uint64_t received_bytes_ = 0;
  uint64_t unheard_purges_ = 0;  // told, and not answered yet
  // What costs us work and is worth nothing: pings, and cancels beyond the requests there were.
  TokenBucket idle_talk_{limits::commands_burst, limits::commands_per_second};
  IdSet open_calls_;  // of an accepted link
};

}  // namespace mesh::proxy
