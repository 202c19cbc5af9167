// The first 64 bytes of a ZMTP 3.x connection (RFC 37/ZMTP, "Greeting").
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "common/base/result.h"
#include "common/base/slice.h"

namespace mesh::zmtp {

inline constexpr size_t kGreetingBytes = 64;
inline constexpr size_t kMechanismNameBytes = 20;

struct Greeting {
  uint8_t major = 3;
  uint8_t minor = 1;
  std::string mechanism = "NULL";
  bool as_server = false;
};

std::array<uint8_t, kGreetingBytes> encode_greeting(const Greeting& greeting);

// Whether these bytes can still become a greeting; INVALID as early as the first wrong byte, so that a peer that
// speaks something else is sent away at once. `bytes` is what came so far, at most kGreetingBytes.
Result<void> judge_greeting_prefix(ByteView bytes);

// Reads a whole greeting of kGreetingBytes.
Result<Greeting> decode_greeting(ByteView bytes);

}  // namespace mesh::zmtp
