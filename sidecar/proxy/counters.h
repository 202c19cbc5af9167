// What the sidecar counts. The names are what an operator sees; they never carry a value from outside.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>

#include "common/base/code.h"

namespace mesh::proxy {

enum class Counter : uint8_t {
  kRequests,             // calls begun by local agents
  kPeerRequests,         // calls that came from other sidecars
  kDelivered,            // handed to an agent of ours
  kLateReplies,          // came after their call had ended: dropped
  kRetriesAfterNotSent,  // certainly not executed, sent again
  kRetriesOfIdempotent,  // perhaps executed, and sent again because that does no harm
  kRetriesDenied,        // more of them than the budget allows: the caller was told
  kRetriesReceived,      // of what came from other sidecars
  kHedges,               // asked beside an instance that took its time
  kHedgesWon,            // and answered before it
  kKeyedDuplicates,      // calls whose idempotency key had come before
  kCacheHits,            // answered with what was kept
  kCacheStale,           // of these, with what was no longer fresh
  kCacheJoined,          // waited for what another had asked for
  kCacheJoinedHost,      // waited for what another sidecar of the host had asked for
  kCacheFetches,         // asked for on behalf of all who wait
  kCacheEvicted,         // for want of room
  kCachePurges,          // names that became wrong, as others told
  kCachePurgeRounds,     // told to others that keep replies
  kCachePurgeOrders,     // purges that agents or operators ordered here
  kCacheUnconfirmed,     // of these, those that somebody did not confirm
  kModelWaits,           // calls that waited for memory for their model
  kModelRefusals,        // asks for it that the arbiter refused
  kModelRecalls,         // that it wanted back for others
  kCallerGone,           // the caller closed its socket before the answer
  kStuckPeersFreed,      // REQ sockets that waited for a reply of a process before this one
  kBatchesSent,
  kEnvelopesSent,
  kBatchesReceived,
  kEnvelopesReceived,
  kLinksOpened,
  kLinksLost,
  kAgentConnects,
  kAgentLosses,
  kClientConnects,
  kClientRefusals,  // over the limit of connections
  kProtocolErrors,  // a client, peer or agent that broke ZMTP or the wire format, and was closed
  kHandshakeTimeouts,
  kOversizeBodies,
  kCount,
};

struct Counters {
  std::array<uint64_t, static_cast<size_t>(Counter::kCount)> values{};
  std::array<uint64_t, kCodeCount> results{};  // terminal results given to local callers, by code

  // Connections closed because of what the other end did, by the port's name in the configuration and the rule it
  // broke. Both come from closed sets; the bound is for mistakes of ours.
  std::map<std::pair<std::string, std::string>, uint64_t> refused;
  static constexpr size_t kRefusedMax = 512;
  void refuse(std::string_view port, std::string_view rule);

  void add(Counter counter, uint64_t count = 1) { values[static_cast<size_t>(counter)] += count; }
  uint64_t operator[](Counter counter) const { return values[static_cast<size_t>(counter)]; }
};

// e.g. "late_replies".
std::string_view to_string(Counter counter);

}  // namespace mesh::proxy
