#include "common/zmtp/greeting.h"

#include <algorithm>

#include "common/base/check.h"

namespace mesh::zmtp {
namespace {

constexpr size_t kSignatureEnd = 9;
constexpr size_t kMajorAt = 10;
constexpr size_t kMinorAt = 11;
constexpr size_t kMechanismAt = 12;
constexpr size_t kAsServerAt = 32;

}  // namespace

std::array<uint8_t, kGreetingBytes> encode_greeting(const Greeting& greeting) {
  MESH_CHECK(greeting.mechanism.size() <= kMechanismNameBytes);
  std::array<uint8_t, kGreetingBytes> bytes{};
  bytes[0] = 0xFF;
  bytes[kSignatureEnd] = 0x7F;
  bytes[kMajorAt] = greeting.major;
  bytes[kMinorAt] = greeting.minor;
  std::copy(greeting.mechanism.begin(), greeting.mechanism.end(), bytes.begin() + kMechanismAt);
  bytes[kAsServerAt] = greeting.as_server ? 1 : 0;
  return bytes;
}

Result<void> judge_greeting_prefix(ByteView bytes) {
  // The padding between the two signature bytes may be anything: ZMTP 2.0 peers write an identity length there.
  if (!bytes.empty() && bytes[0] != 0xFF) return fail(Code::kInvalid, "not_zmtp", "the first byte is not ZMTP's");
  if (bytes.size() > kSignatureEnd && (bytes[kSignatureEnd] & 0x01) == 0) {
    return fail(Code::kInvalid, "not_zmtp", "the signature is not ZMTP's");
  }
  if (bytes.size() > kMajorAt && bytes[kMajorAt] < 3) {
    return fail(Code::kInvalid, "zmtp_version", "the peer speaks a ZMTP older than 3.0 (libzmq before 4.0)");
  }
  return {};
}

Result<Greeting> decode_greeting(ByteView bytes) {
  MESH_CHECK(bytes.size() == kGreetingBytes);
  if (auto judged = judge_greeting_prefix(bytes); !judged) return Unexpected(judged.error());
  Greeting greeting;
  greeting.major = bytes[kMajorAt];
  greeting.minor = bytes[kMinorAt];
  const std::string_view field = as_text(bytes.subspan(kMechanismAt, kMechanismNameBytes));
  const size_t end = std::min(field.find('\0'), field.size());
  greeting.mechanism = std::string(field.substr(0, end));
  if (field.find_first_not_of('\0', end) != std::string_view::npos || greeting.mechanism.empty()) {
    return fail(Code::kInvalid, "mechanism_name", "the mechanism's name is not padded with zeros");
  }
  const uint8_t as_server = bytes[kAsServerAt];
  if (as_server > 1) return fail(Code::kInvalid, "as_server", "the as-server octet is neither 0 nor 1");
  greeting.as_server = as_server == 1;
  return greeting;
}

}  // namespace mesh::zmtp
