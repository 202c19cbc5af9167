// What every connection of the sidecar has in common: a stream, a name in the driver's table, a deadline.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "common/base/transport.h"
#include "sidecar/proxy/events.h"

namespace mesh::proxy {

class Session;

// What sessions ask of the driver.
class SessionHost {
 public:
  virtual ~SessionHost() = default;
  virtual Transport& transport() = 0;
  virtual Instant now() = 0;
  // Takes the session in and gives it its id; it lives until retired.
  virtual Session& admit(std::unique_ptr<Session> session) = 0;
  // An accepted connection became ready, or ended before.
  virtual void on_handshake_ended() = 0;
  // Asks for room for a large message that is under way to it. False: read no more; on_room() comes when there is some.
  virtual bool ask_room(Session& session, size_t bytes) = 0;
  // It is whole, or was given up.
  virtual void give_room_back(Session& session) = 0;
  // Others wait for the room that this one has.
  virtual bool is_room_wanted_from(Session& session) const = 0;
  // Somebody has many bytes waiting: whoever leaves most lying about may have to go.
  virtual void judge_idle_bytes() = 0;
  // kNever for none.
  virtual void set_deadline(Session& session, Instant deadline) = 0;
  // Destroys the session at the end of this turn; its stream closes then.
  virtual void retire(Session& session) = 0;
  // Calls session.on_turn_ending() once at the end of this turn.
  virtual void call_at_turn_end(Session& session) = 0;
  // The same in the next turn, which comes at once, when everybody else had what was there for him.
  virtual void call_next_turn(Session& session) = 0;
  // A connection is closed because of what the other end did: counted by port and rule, and logged (rate-limited per
  // port). `port` is a name from the configuration, never one from the wire.
  virtual void report(std::string_view port, const Error& error) = 0;
};

class Session : public StreamObserver {
 public:
  uint64_t id() const { return id_; }
  void set_id(uint64_t id) { id_ = id; }
  // Its deadline passed.
  virtual void on_time(Instant now) { static_cast<void>(now); }
  virtual void on_turn_ending() {}
  virtual void on_room() {}
  // An accepted connection that has not shown yet what it wants.
  virtual bool is_newcomer() const { return false; }
  // An accepted connection that would lose nothing if it were closed: nothing is open or under way on it, and it never
  // asked for anything, or not for a long time.
  enum class Worth : uint8_t { kNothing, kLittle, kMuch };
  virtual Worth worth(Instant now) const {
    static_cast<void>(now);
    return Worth::kMuch;
  }
  // Closes it and tells the other end why, if it can still be told.
  virtual void refuse(const Error& error) { static_cast<void>(error); }
  // Bytes here that wait for the other end to move, and for how long it has not.
  virtual size_t idle_bytes(Instant now, Duration& motionless) {
    static_cast<void>(now), static_cast<void>(motionless);
    return 0;
  }
  // The other end was told that this process goes, and may not know it yet.
  virtual bool may_bring_more() const { return false; }
  // While that is so: how much the other end has taken in.
  virtual uint64_t taken_bytes() const { return 0; }
  // Bytes that still have to leave.
  virtual size_t unsent_bytes() const { return 0; }

 private:
  uint64_t id_ = 0;
};

}  // namespace mesh::proxy
