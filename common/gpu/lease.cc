#include "common/gpu/lease.h"

#include <algorithm>
#include <bit>

#include "common/base/check.h"

namespace mesh::gpu {
namespace {

// More units than any card has; sums of so many stay far from overflow.
constexpr Units kUnitsMax = Units{1} << 32;

constexpr uint32_t bit(LeaseState state) { return uint32_t{1} << static_cast<uint32_t>(state); }

constexpr uint32_t kEndings = bit(LeaseState::kDying) | bit(LeaseState::kReleased);

// By the state that is left: bits of those it may become.
constexpr uint32_t kMayBecome[kLeaseStates] = {
    /* queued */ bit(LeaseState::kReserved) | bit(LeaseState::kReleased),
    /* reserved */ bit(LeaseState::kActive) | bit(LeaseState::kYieldAsked) | bit(LeaseState::kDraining) | kEndings,
    /* active */ bit(LeaseState::kYieldAsked) | bit(LeaseState::kDraining) | kEndings,
    /* yield asked; one that was not given up is what it was */
    bit(LeaseState::kDraining) | bit(LeaseState::kReserved) | bit(LeaseState::kActive) | kEndings,
    /* draining: asked again, or it kept a part */
    bit(LeaseState::kYieldAsked) | bit(LeaseState::kReserved) | bit(LeaseState::kActive) | kEndings,
    /* dying */ bit(LeaseState::kReleased),
    /* orphaned */ bit(LeaseState::kReserved) | bit(LeaseState::kActive) | kEndings,
    /* released */ 0,
};

}  // namespace

std::string_view to_string(LeaseKind kind) {
  constexpr std::string_view kNames[] = {"accounted", "backed", "shared"};
  return kNames[static_cast<size_t>(kind)];
}

std::string_view to_string(Revocability revocability) {
  constexpr std::string_view kNames[] = {"never", "trim", "offload", "release", "kill"};
  return kNames[static_cast<size_t>(revocability)];
}

std::string_view to_string(LeaseState state) {
  constexpr std::string_view kNames[] = {"queued",   "reserved", "active",   "yield_asked",
                                         "draining", "dying",    "orphaned", "released"};
  return kNames[static_cast<size_t>(state)];
}

bool may_become(LeaseState from, LeaseState to) { return (kMayBecome[static_cast<size_t>(from)] & bit(to)) != 0; }

Result<void> check(const Request& request) {
  const auto sane = [](Units units) { return units >= 0 && units <= kUnitsMax; };
  if (!sane(request.min) || !sane(request.want) || !sane(request.peak) || request.ask() == 0) {
    return fail(Code::kInvalid, "lease_size",
                "A lease is of one unit of 2 MiB at least, and of no more than a card has");
  }
  if (request.min > request.want) return fail(Code::kInvalid, "lease_size", "min is larger than want");
  if (request.hold_hint < Duration{} || request.ttl < Duration{} || request.load_time < Duration{}) {
    return fail(Code::kInvalid, "lease_time", "A time is negative");
  }
  if (request.gpu_count == 0 || request.gpu_count > std::popcount(request.gpus)) {
    return fail(Code::kInvalid, "lease_gpus", "It asks for more GPUs than it allows, or for none");
  }
  if (request.kind != LeaseKind::kShared) return {};
  if (!request.model) return fail(Code::kInvalid, "lease_model", "What is shared needs a model key");
  if (request.gpu_count > 1) return fail(Code::kInvalid, "lease_gpus", "Shared weights are on one GPU");
  return {};
}

void Lease::become(LeaseState next) {
  MESH_CHECK(may_become(state, next));
  state = next;
}

Result<Units> Lease::commit(Units actual) {
  const bool is_loading =
      state == LeaseState::kReserved || state == LeaseState::kYieldAsked || state == LeaseState::kDraining;
  if (!is_loading || is_committed) return fail(Code::kInvalid, "lease_state", "There is nothing to commit");
  if (actual <= 0 || actual > units) return fail(Code::kInvalid, "lease_size", "It commits to more than it has");
  const Units surplus = units - actual;
  units = actual;
  is_committed = true;
  if (state == LeaseState::kReserved) become(LeaseState::kActive);
  return surplus;
}

void Lease::renew(Instant now) { expires_at = request.ttl > Duration{} ? now + request.ttl : kNever; }

Units Lease::yieldable() const {
  if (state != LeaseState::kActive && state != LeaseState::kReserved) return 0;
  if (request.revocability == Revocability::kNever) return 0;
  return request.revocability == Revocability::kTrim ? std::max<Units>(units - request.least(), 0) : units;
}

void ReturnTickets::put(ReturnTicket ticket) {
  if (tickets_.size() == bounds::tickets_max) tickets_.pop_front();
  tickets_.push_back(ticket);
}

std::optional<ReturnTicket> ReturnTickets::take(LeaseId id, uint64_t process, Instant now) {
  advance(now);
  const auto found = std::find_if(tickets_.begin(), tickets_.end(), [&](const ReturnTicket& ticket) {
    return ticket.id == id && ticket.process == process;
  });
  if (found == tickets_.end()) return std::nullopt;
  const ReturnTicket ticket = *found;
  tickets_.erase(found);
  return ticket;
}

void ReturnTickets::advance(Instant now) {
  while (!tickets_.empty() && tickets_.front().until <= now) tickets_.pop_front();
}

void ReturnTickets::forget(uint64_t process) {
  std::erase_if(tickets_, [process](const ReturnTicket& ticket) { return ticket.process == process; });
}

}  // namespace mesh::gpu
