// What two sidecars say to each other, as plain structs. The bytes are told in proto/README.md.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/code.h"
#include "common/base/priority.h"
#include "common/base/slice.h"

namespace mesh::wire {

// Spoken version. A peer with another major version is refused; unknown fields are ignored.
inline constexpr uint32_t kVersion = 1;

enum class Kind : uint8_t {
  kHello = 1,
  kRequest = 2,
  kReply = 3,
  kCancel = 4,
  kPing = 5,
  kPong = 6,
  kDraining = 7,
  kLease = 8,      // tell me for a while what becomes wrong
  kLeased = 9,     // the answer
  kPurge = 10,     // this became wrong
  kPurged = 11,    // nobody I know of gives it any more
  kStanding = 12,  // how soon I answer; to peers with kFeatureStandings only
};

enum class CompressionMode : uint8_t { kNever = 0, kAuto = 1, kAlways = 2 };

enum class Lane : uint8_t { kInteractive = 0, kBulk = 1 };

// First envelope of every connection, in both directions.
struct Hello {
  uint32_t version = kVersion;
  uint64_t epoch = 0;          // drawn at process start: another epoch is another process
  uint64_t features = 0;       // bit set; see kFeature*
  uint64_t batch_bytes = 0;    // largest batch the sender takes
  uint64_t message_bytes = 0;  // largest body the sender takes
  std::string host;
  std::string sidecar;
  Lane lane = Lane::kInteractive;
  // How the sender would like what is sent to it compressed: it dialed and knows the link.
  CompressionMode compression = CompressionMode::kNever;
  uint32_t link_ns_per_kib = 0;
};
inline constexpr uint64_t kFeatureZstd = 1;
inline constexpr uint64_t kFeatureKeys = 2;    // keeps idempotency keys
inline constexpr uint64_t kFeatureLeases = 4;  // tells what becomes wrong of its agents' replies, and wants to be told
inline constexpr uint64_t kFeatureStandings = 8;  // wants to be told how soon others answer

// Where a call's time went beside its callee, as durations: the clocks of two hosts need not agree. Only `received_us`
// is a reading of the callee's clock; differences between two of them mean something, itself it means nothing.
struct CalleeSpans {
  uint64_t received_us = 0;
  uint32_t decompress_us = 0;
  uint32_t queue_us = 0;  // until the agent was given the request, or the call ended
  uint32_t agent_us = kAgentNotReached;
  static constexpr uint32_t kAgentNotReached = UINT32_MAX;
};

// How a request is to be delivered, where that is not once, and to whoever is best. The views live as long as what they
// were made of.
struct Delivery {
  uint32_t attempt = 1;       // at most limits::attempts_max
  std::string_view key{};     // idempotency key; empty: none
  std::string_view caller{};  // whose key it is
  bool is_sensitive = false;  // its body and its reply's are never compressed
  // Where calls make kept replies wrong: a digest of the instances of the service that the caller knows beside the one
  // it asks, and of how far it knows what they made wrong; 0: it does not say. The same digest is the same knowledge.
  uint64_t knowledge = 0;
};

// A reply that was kept beside its agent. Numbers as in telemetry::CacheVerdict and contract::Tier.
struct KeptMark {
  uint32_t verdict = 0;
  uint32_t tier = 0;
  uint32_t age_ms = 0;  // since it was asked for
};

// How much memory the model of a method has where its agents are.
enum class ModelPlace : uint8_t {
  kUnknown = 0,    // nobody there could say
  kUnmanaged = 1,  // nobody there leases memory: it is the agent's affair
  kDisk = 2,       // no copy in use is known of
  kCached = 3,     // in the host's memory, lately used
  kLoading = 4,    // it has its memory, or waits for it
  kResident = 5,
};

// How soon whoever says it would answer a call of a service, with a model that some of its methods compute with. The
// views live as long as what they were made of.
struct Standing {
  std::string_view service{};  // of a reply: both empty, they are the call's
  std::string_view model{};
  uint32_t wait_us = 0;   // until an agent would be free
  uint32_t serve_us = 0;  // what an agent takes, with the model loaded; 0: not known yet
  ModelPlace place = ModelPlace::kUnknown;
  uint32_t usable_in_ms = 0;  // the model, about; where it is not resident
  bool never_fits = false;    // on no card there
  uint32_t pressure = 0;      // of the card where it is or would be: 0 green, 1 amber, 2 red
  uint32_t band = 0;          // likewise: 0 cool, 1 warm, 2 hot, 3 critical
  uint32_t age_ms = 0;        // of what is said of the model
  uint32_t at_once = 0;       // calls that agents work on at a time; 0: as if 1
  uint32_t free = 0;          // so many that come now begin at once
};

// Which kept replies became wrong, of the services of the sidecar that says so.
struct Validity {
  uint64_t position = 0;        // how often something became wrong, from a number drawn at its start
  std::vector<uint64_t> names;  // cache::name_hash() of each; at most limits::purged_names_max
  bool is_relayed = false;      // another instance of the service said so first
};

// One envelope. Which fields count depends on `kind`; the rest stay at their defaults.
struct Envelope {
  Kind kind = Kind::kRequest;
  uint64_t call_id = 0;                   // request, reply, cancel: the caller's id; else the token
  std::string_view service{};             // request
  std::string_view method{};              // request; empty where nothing needed it
  uint64_t budget_us = 0;                 // request: time left, never a wall-clock time
  Priority priority = Priority::kNormal;  // request
  Code code = Code::kOk;                  // reply
  const Error* error = nullptr;           // reply that is not OK: hop, stage, rule, hint, text
  Slice body{};                           // request, reply
  // Sizes of the parts that `body` is made of, when it came as several frames; empty for one frame.
  std::vector<uint32_t> part_sizes{};
  const Hello* hello = nullptr;        // hello
  const CalleeSpans* spans = nullptr;  // reply
  const Delivery* delivery = nullptr;  // request; of a reply, too, if it is sensitive
  const Validity* validity = nullptr;  // leased, purge
  const KeptMark* kept = nullptr;      // reply
  // Standing: at most limits::standings_max. Of a reply: one, or null.
  const std::vector<Standing>* standings = nullptr;
  // A request as it was read needs something that this version does not know: it is to be answered so.
  bool needs_unknown = false;
};

}  // namespace mesh::wire
