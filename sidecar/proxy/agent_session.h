// The one connection to an agent of ours, kept and renewed; requests go out as a DEALER's would, replies are matched by
// id.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/base/backoff.h"
#include "common/base/prng.h"
#include "common/zmtp/connection.h"
#include "sidecar/proxy/config.h"
#include "sidecar/proxy/session.h"

namespace mesh::proxy {

class AgentObserver {
 public:
  virtual ~AgentObserver() = default;
  virtual void on_agent_connected(AgentIndex agent) = 0;
  // It takes no more for now, and takes again.
  virtual void on_agent_congested(AgentIndex agent) = 0;
  virtual void on_agent_drained(AgentIndex agent) = 0;
  virtual void on_agent_replied(AgentReplied&& reply) = 0;
  virtual void on_agent_lost(AgentIndex agent, std::vector<uint64_t> not_sent, std::string_view reason) = 0;
};

class AgentSession final : public Session {
 public:
  // The references must outlive this.
  AgentSession(SessionHost& host, AgentObserver& observer, const AgentConfig& config, AgentIndex index, Prng& prng);

  // Connects, and again whenever the connection ends, until destroyed.
  void start();
  void deliver(const DeliverToAgent& request);
  // Gives up what the agent still owes and connects anew.
  void replace();
  // Of a connected one: its process; 0 if that is not known.
  uint32_t pid() const { return stream_ ? stream_->peer_pid() : 0; }

  void on_connected() override {}
  std::span<uint8_t> read_target() override { return stream_ ? connection_->read_target() : std::span<uint8_t>(); }
  void on_target_filled(size_t count) override;
  void on_bytes(Slice bytes) override;
  void on_congested() override;
  void on_drained() override;
  void on_closed(std::string_view reason) override;
  void on_time(Instant now) override;
  size_t unsent_bytes() const override { return stream_ ? stream_->unsent_bytes() : 0; }

 private:
  struct Leaving {
    uint64_t end;
    uint64_t call_id;
  };
  void receive();
  void receive_message(const zmtp::Message& message);

  SessionHost& host_;
  AgentObserver& observer_;
  const AgentConfig& config_;
  std::string label_;
  AgentIndex index_;
  Prng& prng_;
  Backoff backoff_;
  std::unique_ptr<Stream> stream_;
  std::unique_ptr<Stream> closing_;  // ended during a call of its own: destroyed with the next
  std::optional<zmtp::Connection> connection_;
  std::deque<Leaving> leaving_;
  bool was_ready_ = false;
};

}  // namespace mesh::proxy
