// A lease on VRAM: what is asked for, and its life.
//
//   QUEUED ─▶ RESERVED ─▶ ACTIVE ─▶ YIELD_ASKED ─▶ DRAINING ─▶ RELEASED
//
// Memory is known to be back when its holder says so or its process is gone, never earlier: a socket that closed, a
// time that ran out, a message that was not answered say nothing about it. So DYING, from any state that holds memory,
// ends only in RELEASED, and a lease whose time ran out is asked to yield, not forgotten.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string_view>

#include "common/base/instant.h"
#include "common/base/priority.h"
#include "common/base/result.h"
#include "common/gpu/bounds.h"
#include "common/gpu/units.h"

namespace mesh::gpu {

enum class LeaseKind : uint8_t {
  kAccounted,  // the agent allocates by itself, the lease is its budget
  kBacked,     // the arbiter owns the chunks and hands them out
  kShared,     // backed, written once and then read by all who ask for the same
};
std::string_view to_string(LeaseKind kind);

// What a holder agrees to when others need the memory; each includes those before it.
enum class Revocability : uint8_t {
  kNever,
  kTrim,     // down to its minimum
  kOffload,  // all of it; the content is kept elsewhere and will come back
  kRelease,  // all of it
  kKill,     // its process may be ended for it
};
std::string_view to_string(Revocability revocability);

struct Request {
  LeaseKind kind = LeaseKind::kAccounted;
  Priority priority = Priority::kNormal;
  Revocability revocability = Revocability::kRelease;
  // On each GPU. It can live on min, would like want, and needs peak until it commits (0: no more than the others).
  Units min = 0;
  Units want = 0;
  Units peak = 0;
  Instant deadline = kNever;  // to be granted by
  Duration hold_hint{};       // how long it expects to hold it; 0: unknown
  Duration ttl{};             // unless renewed it is asked to yield then; 0: never
  Duration load_time{};       // what it takes to load the model again; 0: unknown
  ModelKey model{};
  GpuMask gpus = kAnyGpu;
  uint8_t gpu_count = 1;  // on so many at once, or none
  LeaseId ticket{};       // of an offloaded lease that comes back

  // The most it will be given, and the least it will do with.
  Units ask() const { return want > peak ? want : peak; }
  Units least() const { return min > peak ? min : peak; }
};
// Whether it makes sense; rule and sentence of what does not.
Result<void> check(const Request& request);

enum class LeaseState : uint8_t { kQueued, kReserved, kActive, kYieldAsked, kDraining, kDying, kOrphaned, kReleased };
inline constexpr size_t kLeaseStates = 8;
std::string_view to_string(LeaseState state);
bool may_become(LeaseState from, LeaseState to);
// Whether memory is held in that state.
constexpr bool holds_memory(LeaseState state) { return state != LeaseState::kQueued && state != LeaseState::kReleased; }

struct Lease {
  LeaseId id{};
  uint64_t epoch = 0;  // of the arbiter that granted it: a message with another one is of another time
  uint64_t process = 0;
  uint64_t used_by = 0;     // the process whose use is held against it; another one if it was leased for that
  uint64_t connection = 0;  // 0: closed
  Request request{};
  LeaseState state = LeaseState::kQueued;
  GpuMask on = 0;
  Units units = 0;  // on each GPU of `on`
  bool is_committed = false;
  bool in_use = false;
  uint32_t uses = 0;
  Instant asked_at{};
  Instant granted_at{};
  Instant expires_at = kNever;
  double score = 0;  // GDSF, as of the last use

  // Our own mistake if it may not.
  void become(LeaseState next);
  // What it really needs after loading. Gives what it does not, to be given back; an error if that is more than it has.
  Result<Units> commit(Units actual);
  void renew(Instant now);
  // What could be had from it by asking.
  Units yieldable() const;
};

// Whose memory was taken keeps his place: with this he comes back as old as he was.
struct ReturnTicket {
  LeaseId id{};  // of the lease
  uint64_t process = 0;
  Units units = 0;
  Instant asked_at{};
  Instant until{};
};

class ReturnTickets {
 public:
  // The oldest goes where there is no room.
  void put(ReturnTicket ticket);
  // Takes it out; nothing if there is none of that process.
  std::optional<ReturnTicket> take(LeaseId id, uint64_t process, Instant now);
  void advance(Instant now);
  void forget(uint64_t process);
  size_t size() const { return tickets_.size(); }

 private:
  std::deque<ReturnTicket> tickets_;  // the oldest first
};

}  // namespace mesh::gpu
