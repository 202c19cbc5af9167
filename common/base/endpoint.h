#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace mesh {

// "tcp://127.0.0.1:5701" or "ipc:///run/mesh/x.sock", already parsed.
struct Endpoint {
  bool is_ipc = false;
  std::string address;  // numeric IPv4/IPv6 address, or the socket's path
  uint16_t port = 0;
  std::string text;  // as configured

  // ipc, or 127.0.0.0/8, or ::1.
  bool is_loopback() const { return is_ipc || address.starts_with("127.") || address == "::1"; }
  bool operator==(const Endpoint&) const = default;
};

}  // namespace mesh
