// The driver as a session sees it, when it has nothing to say. Tests override what they are about.
#pragma once

#include <memory>

#include "sidecar/proxy/session.h"

namespace mesh::proxy {

class QuietHost : public SessionHost, public Transport {
 public:
  Instant time{milliseconds(1)};

  Transport& transport() override { return *this; }
  Instant now() override { return time; }
  Session& admit(std::unique_ptr<Session> made) override { return *made; }
  void on_handshake_ended() override {}
  bool ask_room(Session&, size_t) override { return true; }
  void give_room_back(Session&) override {}
  bool is_room_wanted_from(Session&) const override { return false; }
  void judge_idle_bytes() override {}
  void set_deadline(Session&, Instant) override {}
  void retire(Session&) override {}
  void call_at_turn_end(Session&) override {}
  void call_next_turn(Session&) override {}
  void report(std::string_view, const Error&) override {}
  void arm_timer(Instant) override {}
  Result<std::unique_ptr<Listener>> listen(const Endpoint&, uint32_t, AcceptObserver&) override { return nullptr; }
  std::unique_ptr<Stream> connect(const Endpoint&, StreamObserver&) override { return nullptr; }
};

}  // namespace mesh::proxy
