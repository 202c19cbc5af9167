// What may be answered without asking: the cache part of a contract.
#pragma once

#include <cstdint>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

namespace mesh::contract {

// Where replies are kept, on the way of the request.
enum class Tier : uint8_t {
  kLocal,   // the caller's sidecar
  kShared,  // the caller's host
  kHome,    // the callee's host
  kDisk,    // likewise, and outlives it
};
// e.g. "local". Static storage.
std::string_view to_string(Tier tier);
inline constexpr uint8_t tier_bit(Tier tier) { return static_cast<uint8_t>(1U << static_cast<uint8_t>(tier)); }
// All that cost nothing when something becomes wrong; a disk has to write that down first.
inline constexpr uint8_t kDefaultTiers = 0x07;

// Agents that exist write a new one of each into every attempt.
inline constexpr std::string_view kFreshFields[] = {"request_id", "timestamp", "source_agent"};

// A top-level field of a JSON reply, and the values of which it must have one; texts compare without regard to case.
struct Success {
  std::string field;
  std::vector<std::string> values;  // texts as they are, other scalars as JSON writes them
};

// A name for all replies that become wrong together, such as "user:{user_id}": of each {field} stands there what the
// request's JSON body holds in it at top level.
struct TagPattern {
  // Text and fields in turn, beginning with a text that may be empty.
  std::vector<std::string> parts;
  // False where braces do not match or name no field.
  static bool parse(const std::string& text, TagPattern& pattern);
};

struct CacheTerms {
  int64_t ttl_ms = 0;
  // Behind the ttl: so long the old reply is given while a new one is fetched, or if none can be had.
  int64_t stale_while_revalidate_ms = 0;
  int64_t stale_if_error_ms = 0;
  // An answer that is no success is kept so long; 0: not at all.
  int64_t negative_ttl_ms = 0;
  // Replies are for whoever asks, or only for the caller that asked.
  bool is_per_caller = false;
  // Of a JSON object. Key fields, if any, are all that tells two requests apart; else all fields but the ignored.
  std::vector<std::string> key_fields{};
  std::vector<std::string> ignore_fields{std::begin(kFreshFields), std::end(kFreshFields)};
  // Top-level scalars that replies repeat from the request: a kept reply is given with those of the new request.
  std::vector<std::string> echo_fields{};
  // All must hold. Empty: a "status" that is there must be success or ok, and an "error" null.
  std::vector<Success> success_when{};
  std::vector<TagPattern> tags{};
  uint8_t tiers = kDefaultTiers;
  std::string version{};  // of the replies' schema: another version has other keys

  bool uses(Tier tier) const { return (tiers & tier_bit(tier)) != 0; }
};

}  // namespace mesh::contract
