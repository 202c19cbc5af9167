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
class NullMechanism {
 public:
  static constexpr std::string_view kName = "NULL";

  explicit NullMechanism(ReadyProperties own) : own_(std::move(own)) {}

  // Called once, when the greetings agree: what we say first.
  void begin(Outbox& out) { put_ready(out, own_); }
  // One command of the peer's handshake. INVALID for anything that is not READY or ERROR; DENIED with the peer's reason
  // for ERROR.
  Result<void> receive(const Command& command);
  bool done() const { return done_; }
  // What the peer said of itself; meaningful when done().
  const ReadyProperties& peer() const { return peer_; }

 private:
  ReadyProperties own_;
  ReadyProperties peer_;
  bool done_ = false;
};

using Mechanism = std::variant<NullMechanism>;

}  // namespace mesh::zmtp
