// A socket of a local agent at a drop-in port or at the mesh socket.
#pragma once

#include <algorithm>
#include <memory>
#include <optional>
#include <string>

#include "common/contract/contract.h"
#include "common/zmtp/connection.h"
#include "sidecar/proxy/message_watch.h"
#include "sidecar/proxy/session.h"
#include "sidecar/proxy/stall_watch.h"

namespace mesh::proxy {

// What all sockets of one port share. It outlives them.
struct ClientPort {
  uint32_t index = 0;           // position in SidecarConfig::ports, behind them the mesh socket
  std::string label;            // as counters and the log name it, e.g. "drop_in:tts"
  std::string service;          // empty: the mesh socket, calls name their service
  std::string caller;           // whose idempotency keys come in here
  contract::Declaration terms;  // of this port, before the contract's
  uint64_t keep_bytes = 0;      // larger messages are answered, not kept
  uint32_t crossed = 0;         // REQ sockets that were closed although they wait for an answer
};

class ClientSession;

class ClientObserver {
 public:
  virtual ~ClientObserver() = default;
  virtual void on_client_request(ClientSession& client, AgentRequested&& request) = 0;
  virtual void on_client_closed(ClientSession& client) = 0;
  // The error that a REQ socket is freed with that waits for the answer of a process before this one.
  virtual Outcome stuck_outcome(const ClientPort& port) = 0;
  // The terms of a call: port or header before contract. Where `method` is empty and the contract tells methods apart,
  // it is read from the body; it is valid until the next call.
  virtual contract::Terms terms_for(std::string_view service, std::string_view& method,
                                    std::span<const Slice> body) = 0;
  // The idempotency key in a field of the body; see contract::MethodReader::read_key.
  virtual std::optional<std::string_view> read_key(std::span<const Slice> body, std::string_view field) = 0;
};

class ClientSession final : public Session {
 public:
  // `may_be_stuck`: accepted so soon after the start that it may be a REQ socket that waits for an answer nobody owes
  // it.
  ClientSession(SessionHost& host, ClientObserver& observer, ClientPort& port, std::unique_ptr<Stream> stream,
                bool may_be_stuck);

  // Puts the answer to one of its calls.
  void reply(ReturnPath path, Outcome outcome);
  ClientPort& port() { return port_; }
  uint32_t open_calls() const { return open_calls_; }
  // Whose calls come in here: the port, and over AF_UNIX the user.
  std::string caller() const;

  std::span<uint8_t> read_target() override;
  void on_target_filled(size_t count) override;
  void on_bytes(Slice bytes) override;
  void on_congested() override;
  void on_drained() override;
  void on_closed(std::string_view reason) override;
  void on_time(Instant now) override;
  size_t unsent_bytes() const override { return stream_->unsent_bytes(); }
  bool is_newcomer() const override { return !was_ready_; }
  Worth worth(Instant now) const override;
  void refuse(const Error& error) override;
  size_t idle_bytes(Instant now, Duration& motionless) override;
  void on_turn_ending() override;
  void on_room() override;

 private:
  void receive();
  void receive_message(const zmtp::Message& message);
  std::shared_ptr<const CallKey> key_of(std::string_view in_header, std::string_view method,
                                        const contract::Terms& terms, std::span<const Slice> body,
                                        std::unique_ptr<Error>& unreadable);
  Keeping keeping_of(const contract::Terms& terms) const;
  void put_reply(const ReturnPath& path, const Outcome& outcome);
  Duration silence() const;
  void free_stuck(Instant now);
  bool has_crossed() const;
  void adjust_reading();
  void arm();
  void read_on();
  bool is_req() const { return connection_.peer().socket_type == zmtp::SocketType::kReq; }

  SessionHost& host_;
  ClientObserver& observer_;
  ClientPort& port_;
  std::unique_ptr<Stream> stream_;
  zmtp::Connection connection_;
  uint32_t open_calls_ = 0;
  uint64_t open_bytes_ = 0;
  bool may_be_stuck_;
  bool was_ready_ = false;
  bool ended_ = false;
  Instant ready_at_ = kNever;
  Instant asked_at_ = kNever;
  std::optional<Instant> freed_at_;
  uint64_t pongs_before_ = 0;
  bool is_pinged_ = false;
  Instant stuck_at_ = kNever;
  StallWatch stall_;      // of what it is to read
  MessageWatch message_;  // of what it began to say
  uint64_t received_bytes_ = 0;
  bool full_ = false;      // reads nothing until some of its calls are answered
  bool has_rest_ = false;  // of what was read already
  bool receiving_ = false;
  Instant armed_ = kNever;
};

}  // namespace mesh::proxy
