// One connection of an agent: packets in, orders for the engine out; what the engine says in, packets out.
//
// Everything an agent sends may be a lie or noise: a packet that is not an order is answered with the rule it breaks,
// counted, and changes nothing. Who breaks too many is hung up on.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <variant>
#include <vector>

#include "common/base/slice.h"
#include "sidecar/arbiter/chunk_book.h"
#include "sidecar/arbiter/engine.h"
#include "sidecar/arbiter/outlook.h"

namespace mesh::lease::v1 {
class Request;
class Reply;
}  // namespace mesh::lease::v1

namespace mesh::arbiter {

inline constexpr uint32_t kProtocolVersion = 1;
// Of a packet: a Claim with all chunks of a large card, 2 MiB each, would be longer, and is not what anybody is
// granted.
inline constexpr size_t packet_bytes_max = 32 * 1024;
// The kernel passes no more with one packet.
inline constexpr size_t packet_descriptors_max = 253;
inline constexpr size_t client_name_bytes_max = 64;
// Who breaks more rules than this is not an agent that made a mistake.
inline constexpr uint32_t broken_rules_max = 256;
// Of one connection, not yet granted or refused.
inline constexpr size_t open_asks_max = 64;
// Of one Status.
inline constexpr size_t queries_max = 32;
// Of one process, the dying ones included: a host's worth is bounds::leases_max.
inline constexpr size_t leases_per_process_max = 128;

// A packet as it came. Descriptors beside it were closed by then.
struct Packet {
  ByteView bytes{};
  bool is_cut = false;  // it was longer
  bool had_descriptors = false;
};

// A packet to be sent, with a descriptor of each of these chunks.
struct Frame {
  std::string bytes{};
  std::vector<ChunkNumber> chunks{};
};
using Frames = std::vector<Frame>;

// What all sessions share. All of it outlives them.
struct SessionTerms {
  const Engine& engine;
  const ChunkBook& chunks;
  std::vector<std::string> gpus;    // UUIDs, in their order
  bool backs_leases = true;         // otherwise this host exports no memory
  std::function<LeaseId()> new_id;  // random, never zero
  // The process that `asker` may lease for under that pid; 0: there is none, or it is another user's.
  std::function<ProcessId(uint32_t pid, ProcessId asker)> process_of;
  std::map<std::string, uint64_t, std::less<>> broken_rules{};  // how often each was, by all
  Planner plan{};                                               // null: nothing can be said of what would be
};

// What an agent orders; nothing if it was answered without the engine.
using Order = std::variant<std::monostate, LeaseAsked, LeaseCommitted, LeaseRenewed, LeaseUsed, LiveReported,
                           LeaseReleased, YieldAcknowledged, YieldDone, SegmentWritten, LeasePresented>;

class Session {
 public:
  Session(SessionTerms& terms, ConnectionId connection, ProcessId process)
      : terms_(terms), connection_(connection), process_(process) {}

  // Answers to it that need no engine are appended to `out`.
  Order on_packet(const Packet& packet, Instant now, Frames& out);
  // The chunks that the last order gives back, or of a LeasePresented that it keeps.
  const std::vector<ChunkNumber>& named() const { return named_; }
  // Which lease the last order was about.
  LeaseId lease() const { return lease_; }

  void on(const SendGrant& grant, Frames& out);
  void on(const SendRefusal& refusal, Frames& out);
  void on(const SendError& error, Frames& out);
  void on(const AskYield& asked, Frames& out);
  void on(const SendBegin& begin, Frames& out);
  // The engine had the order, and what it said of it was told: whoever was not answered is answered now.
  void settle(Frames& out);

  bool has_greeted() const { return has_greeted_; }
  bool is_to_be_closed() const { return broken_ > broken_rules_max; }
  const std::string& client() const { return client_; }
  ProcessId process() const { return process_; }

 private:
  struct Open {
    uint64_t number = 0;
    bool is_claim = false;
  };
  using Request = lease::v1::Request;

  Order read(const Request& request, Instant now, Frames& out);
  Order greet(const Request& request, Frames& out);
  Order ask(const Request& request, Instant now, Frames& out);
  Order claim(const Request& request, Frames& out);
  Order release(const LeaseName& name);
  Order gave_back(const Request& request, const LeaseName& name, Frames& out);
  Order fail(const char* rule, const char* text, Frames& out);
  Order deny(const char* rule, const char* text, Frames& out);
  bool is_crowded() const;
  bool read_gpus(const Request& request, gpu::Request& into) const;
  Order look(const Request& request, Instant now, Frames& out);
  // What is named there of a lease; nothing if these are not all its own.
  std::optional<Extents> extents(LeaseId lease, const std::vector<ChunkNumber>& chunks) const;

  SessionTerms& terms_;
  ConnectionId connection_;
  ProcessId process_;
  bool has_greeted_ = false;
  uint32_t broken_ = 0;
  std::string client_;
  std::map<LeaseId, Open> open_;           // asked or claimed, and neither granted nor refused
  std::map<LeaseId, uint64_t> beginning_;  // number of the order of who waits to compute
  bool is_use_ = false;                    // the last order was one of those
  std::vector<ChunkNumber> named_;
  uint64_t number_ = 0;  // of the order that is being carried out; 0 when it was answered
  LeaseId lease_{};      // which it is about
};

}  // namespace mesh::arbiter
