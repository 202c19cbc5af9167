#include "common/zmtp/mechanism.h"

namespace mesh::zmtp {

Result<void> NullMechanism::receive(const Command& command, Outbox& out) {
  if (command.name == "ERROR") {
    auto reason = decode_error(command.data);
    if (!reason) return Unexpected(reason.error());
    return fail(Code::kDenied, "peer_error", "the peer refused the connection: " + *reason);
  }
  if (command.name != "READY") {
    return fail(Code::kInvalid, "handshake_command", "a command came that does not belong to the NULL handshake");
  }
  auto properties = decode_ready(command.data);
  if (!properties) return Unexpected(properties.error());
  peer_ = std::move(*properties);
  if (answers_ && !done_) put_ready(out, own_);
  done_ = true;
  return {};
}

}  // namespace mesh::zmtp
