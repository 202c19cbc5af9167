// What stands for a text that is too long to keep or compare.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <span>
#include <string_view>

namespace mesh::wire {

// BLAKE2b, 16 bytes (RFC 7693): nobody finds two texts with the same one.
struct Digest {
  std::array<uint8_t, 16> bytes{};
  auto operator<=>(const Digest&) const = default;
  // Its first bytes, where fewer will do.
  uint64_t short_form() const {
    uint64_t number = 0;
    std::memcpy(&number, bytes.data(), sizeof number);
    return number;
  }
};

// Of all parts in their order; where one ends counts.
Digest digest_of(std::span<const std::string_view> parts);
inline Digest digest_of(std::initializer_list<std::string_view> parts) {
  return digest_of(std::span<const std::string_view>(parts.begin(), parts.size()));
}

}  // namespace mesh::wire
