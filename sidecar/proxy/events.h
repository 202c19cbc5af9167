// What the engine is told (past tense) and what it asks for (imperative). Actions carry no decision: the driver only
// does them.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "common/base/code.h"
#include "common/base/instant.h"
#include "common/base/priority.h"
#include "common/base/reply_store.h"
#include "common/base/slice.h"
#include "common/cache/request.h"
#include "common/contract/cache_terms.h"
#include "common/contract/model_terms.h"
#include "common/telemetry/decision.h"
#include "common/wire/batch.h"
#include "common/wire/digest.h"
#include "common/wire/envelope.h"
#include "common/wire/message.h"
#include "sidecar/proxy/model_events.h"
#include "sidecar/proxy/purge_spec.h"

namespace mesh::proxy {

// Numbers that the driver gave to connections; never used twice.
using ClientId = uint64_t;
using LinkId = uint64_t;  // an accepted connection of a peer
// Positions in SidecarConfig::agents and ::peers.
using AgentIndex = uint32_t;
using PeerIndex = uint32_t;
using ServiceIndex = uint32_t;

// A body, and the sizes of its parts if it came as several frames.
struct Payload {
  Slice body;
  std::vector<uint32_t> part_sizes;
};

// Whose call it is and which: two with the same are one.
struct CallKey {
  std::string key;
  std::string caller;
};

// How an answer finds its way back into the socket that asked, or to the peer.
struct ReturnPath {
  ClientId client = 0;
  // Of a peer's call that is answered with what is kept here, or is fetched to be kept; else 0.
  LinkId link = 0;
  uint64_t call_id = 0;
  uint32_t decompress_us = 0;
  uint32_t port = 0;           // at which it asked: position in SidecarConfig::ports, behind them the mesh socket
  uint64_t bytes = 0;          // of the request, for the client's share of memory
  bool delimited = false;      // the request had an empty delimiter frame, as REQ sockets write it
  std::vector<Slice> route{};  // frames before the delimiter
  std::unique_ptr<wire::MeshHeader> header = nullptr;  // only for calls over the mesh socket
};

// How a call ended: a body for kOk, else an error.
struct Outcome {
  Code code = Code::kOk;
  std::unique_ptr<Error> error = nullptr;
  Payload payload{};
  // What the cache did for a call of a method whose replies are kept, here or, of a peer's reply, there; null for
  // others.
  std::unique_ptr<telemetry::CacheTrace> cache = nullptr;
};
// For several who wait for one; what the cache did for each is its own.
inline Outcome copy_of(const Outcome& outcome) {
  Outcome copy{.code = outcome.code, .payload = outcome.payload};
  if (outcome.error) copy.error = std::make_unique<Error>(*outcome.error);
  return copy;
}

// Whether replies are kept, and which of those that are this call makes wrong; both may be null. They outlive the call.
struct Keeping {
  const contract::CacheTerms* cache = nullptr;
  const std::vector<contract::TagPattern>* invalidates = nullptr;
  std::string caller{};  // where replies are kept per caller
};

// --- events ---

struct AgentRequested {  // a local agent asked for something
  ReturnPath path;
  std::unique_ptr<Error> unreadable = nullptr;  // what it asked for; its stage may be set
  std::string_view service;
  std::string_view method;
  int64_t budget_ms = 0;
  Priority priority = Priority::kNormal;
  uint64_t max_bytes = 0;
  int64_t linger_ms = 0;
  uint32_t linger_count = 1;
  bool idempotent = false;
  int64_t hedge_ms = 0;  // 0: never
  bool is_sensitive = false;
  std::shared_ptr<const CallKey> key = nullptr;
  const Keeping* keeping = nullptr;             // lives as long as the event; null for most
  const contract::ModelTerms* model = nullptr;  // outlives the call; null for most
  uint64_t dropped_bytes = 0;                   // of a body too large to keep
  uint64_t dropped_frames = 0;
  Payload payload;
};

struct ClientClosed {
  ClientId client;
};

struct PeerRequested {
  LinkId link;
  uint64_t call_id;
  std::string_view service;
  std::string_view method;
  Duration budget;
  Priority priority;
  Payload payload;
  uint32_t decompress_us = 0;                // before now
  const wire::Delivery* delivery = nullptr;  // lives as long as the event
  bool needs_unknown = false;                // it must not be executed by who does not know what it needs
};

struct PeerCancelled {
  LinkId link;
  uint64_t call_id;
};

struct PeerReplied {
  PeerIndex peer;
  uint64_t call_id;
  Outcome outcome;
  // For the record; both live as long as the event. Null if the callee said nothing.
  const wire::CalleeSpans* spans = nullptr;
  const wire::BatchShape* batch = nullptr;   // with which it came
  uint32_t decompress_us = 0;                // before now
  const wire::Standing* standing = nullptr;  // how soon the next one would be answered; lives as long as the event
};

// A batch of calls was given to the kernel, or queued where it will be.
struct CallsLeft {
  struct Call {
    uint64_t call_id;
    int64_t batch_wait_us;  // held back for company
    int64_t budget_us;      // that travels
  };
  wire::BatchShape batch;
  std::span<const Call> calls;
};

struct PeerLacksKeys {  // the call has a key, and the peer's version keeps none: it did not leave
  PeerIndex peer;
  uint64_t call_id;
};

struct LinkClosed {  // an accepted connection of a peer ended
  LinkId link;
};

struct PeerConnected {
  PeerIndex peer;
  wire::Lane lane;
  bool offers_leases = false;  // it tells what becomes wrong of its agents' replies
};

struct PeerLost {  // a connection to a peer ended, or could not be made
  PeerIndex peer;
  wire::Lane lane;
  std::vector<uint64_t> not_sent;  // calls of which the peer certainly has nothing whole
  std::vector<uint64_t> waiting;   // calls that still wait for a connection
};

struct PeerDraining {
  PeerIndex peer;
  wire::Lane lane;  // the process at the other end of that one; the other's may have come after it
};

// Of leases on kept replies; see Leases for whoever keeps them, PurgeRounds for whose agents gave them.
struct PeerLeased {
  PeerIndex peer;
  uint64_t token;
  uint64_t position;
};
struct PeerPurged {
  PeerIndex peer;
  uint64_t token;
  uint64_t position;
  bool is_relayed;                  // another instance of the service said so first
  std::span<const uint64_t> names;  // live as long as the event
};
struct LeaseAsked {
  LinkId link;
  uint64_t token;
};
struct PurgeAsked {
  LinkId link;
  uint64_t token;
  std::span<const uint64_t> names;  // likewise
};
struct PurgeHeard {
  LinkId link;
  uint64_t token;
};

// Of replies on disk; see ReplyStore.
struct ReplyLoaded {
  uint64_t ticket;
  std::optional<StoredReply> reply;
};
struct RepliesErased {
  uint64_t ticket;
  bool is_pending = false;  // not yet, as the disk cannot be used; until it is, nothing is read from it either
};

struct AgentConnected {
  AgentIndex agent;
};
struct AgentCongested {  // it does not read what it was given
  AgentIndex agent;
};
struct AgentDrained {
  AgentIndex agent;
};

struct AgentReplied {
  AgentIndex agent;
  uint64_t call_id;  // 0 where the agent's frames carry none
  uint64_t dropped_bytes = 0;
  Payload payload;
};

struct AgentLost {
  AgentIndex agent;
  std::vector<uint64_t> not_sent;  // delivered calls of which the agent certainly has nothing whole
};

struct RecordStored {  // or not
  uint64_t ticket;
  bool is_stored;
};

struct RecordLoaded {
  uint64_t ticket;
  std::optional<Slice> value;
};

struct DrainRequested {};

// Somebody at this sidecar wants something to be given no more, wherever it is kept.
struct PurgeWanted {
  uint64_t ticket;
  PurgeSpec what;
};
struct PurgeConfirmed {  // nobody gives any more what the peer was asked to purge
  PeerIndex peer;
  uint64_t token;
};

// --- actions ---

struct ReplyToAgent {
  ReturnPath path;
  Outcome outcome;
};

struct SendToPeer {
  PeerIndex peer;
  wire::Lane lane;
  uint64_t call_id;
  std::string_view service;  // the configuration's own strings: they outlive every queue
  std::string method;
  Instant deadline;
  Instant queued_at;
  Instant leave_by;  // may wait for company until then
  uint32_t linger_count;
  Priority priority;
  uint32_t attempt = 1;
  bool is_sensitive = false;
  uint64_t knowledge = 0;  // see wire::Delivery
  std::shared_ptr<const CallKey> key;
  Payload payload;
};

struct CancelAtPeer {  // taken out of the queue, or told to the peer if it was sent
  PeerIndex peer;
  wire::Lane lane;
  uint64_t call_id;
};

struct SendReply {
  LinkId link;
  uint64_t call_id;
  Outcome outcome;
  wire::CalleeSpans spans;
  bool is_sensitive = false;
  StandingIndex standing = kNoStanding;  // that is told with it
};

struct DeliverToAgent {
  AgentIndex agent;
  uint64_t call_id;
  Payload payload;
};

struct ReplaceAgentConnection {  // what it still owes will never be matched to anything else
  AgentIndex agent;
};

struct TellPeersDraining {};

struct AskLease {
  PeerIndex peer;
  uint64_t token;
};
struct HearPurge {  // it was taken notice of
  PeerIndex peer;
  uint64_t token;
};
struct GrantLease {
  LinkId link;
  uint64_t token;
  uint64_t position;
};
struct TellPurge {
  LinkId link;
  uint64_t token;
  uint64_t position;
  bool is_relayed;
  std::shared_ptr<const std::vector<uint64_t>> names;
};
// A connection is wanted, though no call waits for one.
struct DialPeer {
  PeerIndex peer;
};
struct AskPurge {
  PeerIndex peer;
  uint64_t token;
  std::vector<uint64_t> names;
};
struct PurgeDone {  // or not: a body that says what was purged, or an error that names who may still give it
  uint64_t ticket;
  Outcome outcome;
};
// Somebody ordered a purge: for the log. Of a call, the way back says who; else the ticket.
struct NotePurge {
  uint64_t ticket = 0;
  ClientId client = 0;
  std::string text{};
};
struct ConfirmPurge {  // nobody gives any more what the link asked to be purged
  LinkId link;
  uint64_t token;
};

// Of replies on disk; see ReplyStore.
struct LoadReply {
  uint64_t ticket;
  cache::Hash hash;
};
struct StoreReply {
  cache::Hash hash;
  Slice value;
  int64_t cost_us;
  int64_t ttl_ms;
  int64_t age_ms;
  std::vector<uint64_t> names;
};
struct EraseReplies {
  uint64_t ticket;
  std::vector<uint64_t> names;
};

// Of calls with an idempotency key; see RecordStore.
struct PutRecord {
  uint64_t ticket;
  wire::Digest key;
  std::vector<Slice> value;
};
struct LoadRecord {
  uint64_t ticket;
  wire::Digest key;
};
struct EraseRecord {
  wire::Digest key;
};

using Action =
    std::variant<ReplyToAgent, SendToPeer, CancelAtPeer, SendReply, DeliverToAgent, ReplaceAgentConnection,
                 TellPeersDraining, PutRecord, LoadRecord, EraseRecord, AskLease, HearPurge, GrantLease, TellPurge,
                 ConfirmPurge, LoadReply, StoreReply, EraseReplies, DialPeer, AskPurge, PurgeDone, NotePurge, AskModel,
                 NoteModelUse, NoteModelLoaded, ReturnModel, LookAtModels, TellStandings>;
using Actions = std::vector<Action>;

}  // namespace mesh::proxy
