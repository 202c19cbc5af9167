// Security mechanisms of ZMTP (RFC 37/ZMTP, "Security handshake"). A mechanism is a value: commands in, commands out;
// it knows no socket and no clock. NULL proves nothing and hides nothing.
#pragma once

#include <string_view>
#include <variant>

#include "common/base/outbox.h"
#include "common/base/result.h"
#include "common/zmtp/command.h"

namespace mesh::zmtp {

// RFC 37, "The NULL Security Mechanism": each side sends READY once, in any order.
//
// Whoever has both READYs may say something, and a libzmq socket does so at once and only once. So who accepts, and may
// yet turn somebody away, says his READY as an answer: then nobody is ready who was not heard.
class NullMechanism {
 public:
  static constexpr std::string_view kName = "NULL";

  NullMechanism(ReadyProperties own, bool answers) : own_(std::move(own)), answers_(answers) {}

  // Called once, when the greetings agree: what we say first.
  void begin(Outbox& out) const {
    if (!answers_) put_ready(out, own_);
  }
  // One command of the peer's handshake. INVALID for anything that is not READY or ERROR; DENIED with the peer's reason
  // for ERROR.
  Result<void> receive(const Command& command, Outbox& out);
  bool done() const { return done_; }
  // What the peer said of itself; meaningful when done().
  const ReadyProperties& peer() const { return peer_; }

 private:
  ReadyProperties own_;
  ReadyProperties peer_;
  bool answers_;
  bool done_ = false;
};

using Mechanism = std::variant<NullMechanism>;

}  // namespace mesh::zmtp
