#include "common/zmtp/command.h"

#include <algorithm>
#include <array>
#include <cctype>

#include "common/base/limits.h"
#include "common/zmtp/frame.h"

namespace mesh::zmtp {
namespace {

constexpr std::array<std::string_view, 11> kSocketTypeNames = {"REQ", "REP",  "DEALER", "ROUTER", "PAIR", "PUB",
                                                               "SUB", "XPUB", "XSUB",   "PUSH",   "PULL"};
constexpr size_t kIdentityMax = 255;

void append(std::string& to, std::string_view name) {
  to.push_back(static_cast<char>(name.size()));
  to.append(name);
}

void append_property(std::string& to, std::string_view name, std::string_view value) {
  append(to, name);
  for (int shift = 24; shift >= 0; shift -= 8) to.push_back(static_cast<char>(value.size() >> shift));
  to.append(value);
}

// Property names are compared without regard to case (RFC 37, "Metadata").
bool same_name(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](char x, char y) {
    return std::tolower(static_cast<unsigned char>(x)) == std::tolower(static_cast<unsigned char>(y));
  });
}

void put_command(Outbox& out, std::string_view name, std::string_view data) {
  std::string body;
  append(body, name);
  body.append(data);
  put_frame(out, kFlagCommand, as_bytes(body));
}

}  // namespace

std::string_view to_string(SocketType type) { return kSocketTypeNames.at(static_cast<size_t>(type)); }

std::optional<SocketType> socket_type_from_name(std::string_view name) {
  for (size_t i = 0; i < kSocketTypeNames.size(); ++i) {
    if (kSocketTypeNames[i] == name) return static_cast<SocketType>(i);
  }
  return std::nullopt;
}

Result<Command> decode_command(ByteView body) {
  if (body.empty() || body[0] == 0 || body.size() < 1u + body[0]) {
    return fail(Code::kInvalid, "command_name", "a command's name is longer than the command");
  }
  return Command{as_text(body.subspan(1, body[0])), body.subspan(1u + body[0])};
}

Result<ReadyProperties> decode_ready(ByteView data) {
  const auto broken = [] { return fail(Code::kInvalid, "metadata", "a property of READY is longer than READY"); };
  std::optional<SocketType> type;
  ReadyProperties properties;
  while (!data.empty()) {
    const size_t name_bytes = data[0];
    if (name_bytes == 0 || data.size() < 1 + name_bytes + 4) return broken();
    const std::string_view name = as_text(data.subspan(1, name_bytes));
    data = data.subspan(1 + name_bytes);
    const size_t value_bytes = size_t{data[0]} << 24 | size_t{data[1]} << 16 | size_t{data[2]} << 8 | size_t{data[3]};
    data = data.subspan(4);
    if (data.size() < value_bytes) return broken();
    const std::string_view value = as_text(data.subspan(0, value_bytes));
    data = data.subspan(value_bytes);
    if (same_name(name, "Socket-Type")) {
      if (type) return fail(Code::kInvalid, "metadata", "READY names its socket type twice");
      type = socket_type_from_name(value);
      if (!type) return fail(Code::kInvalid, "socket_type", "READY names an unknown socket type");
    } else if (same_name(name, "Identity")) {
      if (value.size() > kIdentityMax) return fail(Code::kInvalid, "metadata", "an identity is over 255 bytes");
      properties.identity = std::string(value);
    }
  }
  if (!type) return fail(Code::kInvalid, "socket_type", "READY names no socket type");
  properties.socket_type = *type;
  return properties;
}

Result<std::string> decode_error(ByteView data) {
  if (data.empty() || data.size() < 1u + data[0]) {
    return fail(Code::kInvalid, "error_reason", "the reason in ERROR is longer than ERROR");
  }
  return std::string(as_text(data.subspan(1, data[0])));
}

Result<Ping> decode_ping(ByteView data) {
  if (data.size() < 2) return fail(Code::kInvalid, "ping", "a PING has no TTL");
  Ping ping{static_cast<uint16_t>(data[0] << 8 | data[1]), data.subspan(2)};
  if (ping.context.size() > limits::ping_context_bytes)
    return fail(Code::kInvalid, "ping", "a PING's context is too long");
  return ping;
}

void put_ready(Outbox& out, const ReadyProperties& properties) {
  std::string data;
  append_property(data, "Socket-Type", to_string(properties.socket_type));
  // RFC 37: only these three carry an Identity; libzmq sends it even when empty.
  if (properties.socket_type == SocketType::kReq || properties.socket_type == SocketType::kDealer ||
      properties.socket_type == SocketType::kRouter) {
    append_property(data, "Identity", properties.identity);
  }
  put_command(out, "READY", data);
}

void put_error(Outbox& out, std::string_view reason) {
  std::string data;
  append(data, reason.substr(0, 255));
  put_command(out, "ERROR", data);
}

void put_ping(Outbox& out, uint16_t ttl_deciseconds, ByteView context) {
  std::string data = {static_cast<char>(ttl_deciseconds >> 8), static_cast<char>(ttl_deciseconds & 0xFF)};
  data.append(as_text(context));
  put_command(out, "PING", data);
}

void put_pong(Outbox& out, ByteView context) { put_command(out, "PONG", as_text(context)); }

}  // namespace mesh::zmtp
