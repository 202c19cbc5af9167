// One connection's message under way into this process: that it goes on once it was begun, and has room if it is large.
#pragma once

#include <cstdint>
#include <optional>
#include <utility>

#include "common/base/result.h"
#include "sidecar/proxy/session.h"
#include "sidecar/proxy/stall_watch.h"

namespace mesh::proxy {

class MessageWatch {
 public:
  // Who moves less than `pace_bytes_per_s` goes while others wait for the room. `host` must outlive this.
  MessageWatch(SessionHost& host, Session& session, uint64_t pace_bytes_per_s)
      : host_(host), session_(session), pace_bytes_per_s_(pace_bytes_per_s) {}

  // After each receive(): what is held of a message that is not whole, 0 if none is; what it will have at least; and
  // how much came on this connection so far. Then a deadline may be new, and no more must be read if waits().
  void look(size_t held_bytes, size_t declared_bytes, uint64_t received_bytes) {
    if (held_bytes == 0) return end();
    if (!stall_.active()) stall_.begin(received_bytes, host_.now());
    if (declared_bytes <= limits::gathering_free_bytes) return leave_room();
    const bool waits = !host_.ask_room(session_, declared_bytes);
    if (!asked_ || waits != waits_) begin_phase(received_bytes);
    asked_ = true;
    waits_ = waits;
  }
  // It is whole, or will never be.
  void end() {
    stall_.end();
    leave_room();
  }
  // There is room now.
  void admit(uint64_t received_bytes) {
    waits_ = false;
    begin_phase(received_bytes);
  }

  bool waits() const { return waits_; }
  Instant next_deadline() const { return stall_.next_deadline(); }
  // At a deadline: why the connection has to go, if so. `reads`: it is not we who do not read.
  std::optional<Error> judge(bool reads, uint64_t received_bytes, Instant now) {
    if (!stall_.active()) return std::nullopt;
    if (waits_ && now - phase_began_ >= milliseconds(limits::room_wait_ms)) {
      return rule_broken(Code::kOverloaded, "no_room", "too many large messages are under way at once");
    }
    if (waits_ || !reads) {
      if (!waits_) begin_phase(received_bytes);
      stall_.begin(received_bytes, now);
      return std::nullopt;
    }
    const bool is_in_the_way = asked_ && host_.is_room_wanted_from(session_);
    const Duration motionless = stall_.look(received_bytes, now);
    if (motionless >= milliseconds(is_in_the_way ? limits::stall_check_ms : limits::stall_ms) ||
        (is_in_the_way && is_slow(received_bytes, now))) {
      return rule_broken(Code::kDeadline, "message_stalled", "the peer began a message and does not go on");
    }
    return std::nullopt;
  }

 private:
  void leave_room() {
    waits_ = false;
    if (std::exchange(asked_, false)) host_.give_room_back(session_);
  }
  void begin_phase(uint64_t received_bytes) {
    phase_began_ = host_.now();
    phase_bytes_ = received_bytes;
    if (stall_.active()) stall_.begin(received_bytes, phase_began_);
  }
  bool is_slow(uint64_t received_bytes, Instant now) const {
    const auto age_ms = static_cast<uint64_t>(to_us(now - phase_began_) / 1000);
    return age_ms >= limits::stall_check_ms && (received_bytes - phase_bytes_) * 1000 < pace_bytes_per_s_ * age_ms;
  }

  SessionHost& host_;
  Session& session_;
  uint64_t pace_bytes_per_s_;
  StallWatch stall_;
  bool asked_ = false;
  bool waits_ = false;
  Instant phase_began_{};  // of waiting, or of having room and being read from
  uint64_t phase_bytes_ = 0;
};

}  // namespace mesh::proxy
