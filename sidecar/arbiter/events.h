// What the arbiter's engine is told (past tense) and what it asks for (imperative). Actions carry no decision: the
// driver only does them, in their order. Sizes are in units of 2 MiB on each GPU of a lease.
#pragma once

#include <cstdint>
#include <string_view>
#include <variant>
#include <vector>

#include "common/base/code.h"
#include "common/base/instant.h"
#include "common/base/result.h"
#include "common/gpu/extents.h"
#include "common/gpu/ladder.h"
#include "common/gpu/lease.h"
#include "common/gpu/ledger.h"
#include "common/gpu/segments.h"
#include "common/gpu/thermal.h"
#include "common/gpu/units.h"

namespace mesh::arbiter {

using gpu::Extents;
using gpu::GpuMask;
using gpu::Id;
using gpu::LeaseId;
using gpu::Units;

// A number that the driver gave to a socket; never used twice.
using ConnectionId = uint64_t;
// A process as the driver knows it: the same number after a restart of the arbiter, another one for another process
// that was given the same pid. Never 0.
using ProcessId = uint64_t;
using GpuIndex = uint32_t;  // in the order of UUIDs

// A lease as an agent names it: by its id and the epoch it was told with it.
struct LeaseName {
  ConnectionId connection = 0;
  ProcessId process = 0;
  LeaseId id{};
  uint64_t epoch = 0;
};

// --- events ---

struct LeaseAsked {
  ConnectionId connection = 0;
  ProcessId process = 0;
  LeaseId id{};  // new and random
  gpu::Request request{};
  Id layout{};            // of shared weights
  ProcessId used_by = 0;  // of an accounted one: who will use it; 0: its process
};
// It has loaded, and needs so much from now on.
struct LeaseCommitted {
  LeaseName name{};
  Units actual = 0;
  Extents surplus{};  // of a backed one: which chunks it gives back
};
struct LeaseRenewed {
  LeaseName name{};
};
// It begins to compute with it, or has ended.
struct LeaseUsed {
  LeaseName name{};
  bool in_use = false;
  bool waits = false;  // to be told that it may begin
};
// So much of it lives; the rest lies in its allocator.
struct LiveReported {
  LeaseName name{};
  Units live = 0;
};
// No mapping of it is left.
struct LeaseReleased {
  LeaseName name{};
};
struct YieldAcknowledged {
  LeaseName name{};
  Duration eta{};
};
// It gave back so much, asked or not.
struct YieldDone {
  LeaseName name{};
  Units units = 0;    // 0: it will not
  Extents extents{};  // of a backed one: which chunks they are
};
// Weights are complete.
struct SegmentWritten {
  LeaseName name{};
};
// After a restart of the arbiter an agent shows what it was granted by the one before.
struct LeasePresented {
  LeaseName name{};
  Units units = 0;    // what it has of it; what it gave back while nobody listened is given back now
  Extents extents{};  // of a backed one
};
struct ConnectionClosed {
  ConnectionId connection = 0;
};
// Its pidfd says so: what it held is really free.
struct ProcessEnded {
  ProcessId process = 0;
};
// CreateChunks was carried out but for `missing`.
struct ChunksCreated {
  LeaseId id{};
  GpuIndex gpu = 0;
  Extents missing{};
};
struct ProcessSample {
  ProcessId process = 0;
  Units used = 0;
};
// All of a card; `processes` those that have a connection or a lease, if the driver can tell them apart.
struct GpuSampled {
  GpuIndex gpu = 0;
  Units used = 0;  // without what the driver reserves
  std::vector<ProcessSample> processes{};
  bool has_heat = false;
  double celsius = 0;
  bool is_slowed = false;
};

// An operator wants it back, as far as it agreed: a lease, or shared weights that nobody uses.
struct EvictionOrdered {
  LeaseId id{};
};
// Nothing of that card is granted any more, and who holds something is asked to yield; or it is as before.
struct DrainOrdered {
  GpuIndex gpu = 0;
  bool is_drained = true;
};

// --- actions ---

// Why somebody waits or was refused.
enum class Reason : uint8_t {
  kNone,
  kInvalid,
  kNeverFits,
  kTooMany,  // of leases, waiters or users of a segment
  kDeadline,
  kPoliced,       // its process uses more than it was granted
  kOtherEpoch,    // an arbiter before this one granted it, or nobody
  kChunksFailed,  // the driver could not create them
  kNotReconciled,
  kPressure,      // others eat into the emergency reserve
  kHeat,          // batch does not get any of a hot card
  kReserved,      // what is free is for somebody who waited too long
  kYielding,      // somebody was asked to yield for it
  kSwapBudget,    // too much was swapped in the last minute
  kNoVictims,     // nobody who could be asked has enough
  kDidNotYield,   // it was asked as far as it agreed, and keeps what it has
  kDrained,       // an operator wants the card empty
  kProcessEnded,  // for which it was asked
};
std::string_view to_string(Reason reason);

struct SendGrant {
  ConnectionId connection = 0;
  LeaseId id{};
  uint64_t epoch = 0;
  Units units = 0;
  GpuMask on = 0;
  gpu::LeaseKind kind{};
  // Of shared weights: whose chunks these are, and whether it has to write them; if not it maps them read-only.
  LeaseId segment{};
  bool is_writer = false;
};
struct SendRefusal {
  ConnectionId connection = 0;
  LeaseId id{};
  Code code = Code::kOverloaded;
  Reason reason{};
  Units largest = 0;  // of kNeverFits: what could be granted
};
// An order of an agent could not be followed.
struct SendError {
  ConnectionId connection = 0;
  LeaseId id{};
  Error error{};
};
struct AskYield {
  ConnectionId connection = 0;
  LeaseId id{};
  gpu::YieldHow how{};
  Units units = 0;
  Duration within{};
};
// Who waits to compute may begin.
struct SendBegin {
  ConnectionId connection = 0;
  LeaseId id{};
};
struct SignalProcess {
  ProcessId process = 0;
  bool kill = false;  // otherwise terminate
};
// To be asked for its end, and to be told with ProcessEnded, at once if it is gone.
struct WatchProcess {
  ProcessId process = 0;
};
struct CreateChunks {
  LeaseId id{};
  GpuIndex gpu = 0;
  gpu::ExtentPlan plan{};
};
// All or some of a lease's chunks are free ones from now on.
struct ReturnChunks {
  LeaseId id{};
  GpuIndex gpu = 0;
  Extents extents{};
};
// Free ones go to the driver.
struct ReleaseChunks {
  GpuIndex gpu = 0;
  Extents extents{};
};
// Something was said to be free: see whether it is, soon.
struct SampleGpu {
  GpuIndex gpu = 0;
};
// A lease or a segment as it is now, or that it is no more. Written before the actions behind it are carried out.
struct JournalEntry {
  enum class Kind : uint8_t { kEpoch, kLease, kSegment, kGone } kind = Kind::kEpoch;
  uint64_t epoch = 0;
  LeaseId id{};
  // Of a lease.
  ProcessId process = 0;
  gpu::Request request{};
  GpuMask on = 0;
  Units units = 0;       // in the ledger; of a segment, too
  Units unseen = 0;      // of them: said to be free, and not seen to be
  bool is_lost = false;  // nobody said so: its holder did not claim it in time
  ProcessId used_by = 0;
  Extents extents{};
  bool is_committed = false;
  bool is_handed = false;  // its holder was told; otherwise he has nothing of it
  LeaseId segment{};
  // Of a segment.
  gpu::SegmentKey key{};
  LeaseId writer{};  // while it is loading
  Duration load_time{};
};
struct AppendJournal {
  JournalEntry entry{};
};
// Why somebody waits, once for each reason; or what was found out about a process.
struct RecordDecision {
  LeaseId id{};
  ProcessId process = 0;
  Reason reason{};
  GpuIndex gpu = 0;
  Units missing = 0;
};

using Action = std::variant<SendGrant, SendRefusal, SendError, AskYield, SendBegin, SignalProcess, WatchProcess,
                            CreateChunks, ReturnChunks, ReleaseChunks, SampleGpu, AppendJournal, RecordDecision>;
using Actions = std::vector<Action>;

}  // namespace mesh::arbiter
