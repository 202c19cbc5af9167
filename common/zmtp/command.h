// ZMTP commands (RFC 37/ZMTP, "Commands"): a name behind its length, then data.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "common/base/outbox.h"
#include "common/base/result.h"
#include "common/base/slice.h"

namespace mesh::zmtp {

enum class SocketType : uint8_t { kReq, kRep, kDealer, kRouter, kPair, kPub, kSub, kXpub, kXsub, kPush, kPull };

// As in the Socket-Type property, e.g. "DEALER".
std::string_view to_string(SocketType type);
std::optional<SocketType> socket_type_from_name(std::string_view name);

// READY's properties that mean something to us. Others are read over.
struct ReadyProperties {
  SocketType socket_type = SocketType::kDealer;
  std::string identity;
};

struct Command {
  std::string_view name;
  ByteView data;
};

// A view on the body of a command frame. INVALID if the name's length lies.
Result<Command> decode_command(ByteView body);
// INVALID for broken metadata, a missing, doubled or unknown Socket-Type, or an identity over 255 bytes.
Result<ReadyProperties> decode_ready(ByteView data);
// The reason a peer gives in ERROR. INVALID if its length lies.
Result<std::string> decode_error(ByteView data);

struct Ping {
  uint16_t ttl_deciseconds = 0;
  ByteView context;
};
// INVALID if shorter than its TTL or with a context over limits::ping_context_bytes.
Result<Ping> decode_ping(ByteView data);

void put_ready(Outbox& out, const ReadyProperties& properties);
// `reason` is cut to 255 bytes.
void put_error(Outbox& out, std::string_view reason);
void put_ping(Outbox& out, uint16_t ttl_deciseconds, ByteView context);
void put_pong(Outbox& out, ByteView context);

}  // namespace mesh::zmtp
