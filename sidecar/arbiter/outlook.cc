#include "sidecar/arbiter/outlook.h"

#include <algorithm>
#include <bit>
#include <optional>

#include "sidecar/arbiter/residence.h"

namespace mesh::arbiter {
namespace {

// Of a disk that nobody has measured, and of a model of common size.
constexpr int64_t kUnknownLoad_ms = 3000;

void put_card(Outlook& outlook, const Engine& engine, GpuIndex gpu) {
  outlook.pressure = engine.gpus()[gpu].ledger.pressure();
  outlook.band = engine.gpus()[gpu].thermal.band();
}

// What the asker has already, or everybody has.
std::optional<Outlook> held(const Engine& engine, const gpu::Request& request, ProcessId asker, Duration load_time,
                            Instant now) {
  std::optional<Outlook> found;
  const auto take = [&](bool is_loaded, Instant began, GpuIndex gpu) {
    const Duration usable_in = is_loaded ? Duration{} : left_of(load_time, began, now);
    if (found && found->usable_in <= usable_in) return;
    found = Outlook{.place = is_loaded ? Place::kResident : Place::kLoading, .usable_in = usable_in};
    put_card(*found, engine, gpu);
  };
  for (const auto& [id, entry] : engine.entries()) {
    const gpu::Lease& lease = entry.lease;
    const bool is_his = lease.process == asker && lease.request.model == request.model;
    const bool is_staying = lease.state == gpu::LeaseState::kActive || lease.state == gpu::LeaseState::kReserved;
    if (!is_his || !is_staying || lease.units == 0) continue;
    take(lease.is_committed, lease.granted_at, static_cast<GpuIndex>(std::countr_zero(lease.on)));
  }
  engine.segments().for_each([&](const gpu::Segment& segment) {
    if (segment.key.content != request.model || segment.state == gpu::SegmentState::kAbandoned) return;
    take(segment.state != gpu::SegmentState::kLoading, segment.load_began, segment.key.gpu);
  });
  return found;
}

// Under which id he waits for it already: what is held back may be for him. Zero if he does not.
LeaseId waiting(const Engine& engine, const gpu::Request& request, ProcessId asker) {
  for (const auto& [id, entry] : engine.entries()) {
    if (entry.is_waiting() && entry.lease.process == asker && entry.lease.request.model == request.model) return id;
  }
  return {};
}

// Where it is while he does not have it, and what it took to load it when somebody did.
Place place_of(const Engine& engine, const gpu::Request& request, Duration& load_time) {
  Place place = Place::kDisk;
  for (const auto& [id, entry] : engine.entries()) {
    if (entry.lease.request.model != request.model || entry.lease.units == 0) continue;
    if (entry.lease.request.load_time > Duration{}) load_time = entry.lease.request.load_time;
    if (entry.lease.is_committed) place = Place::kCached;
  }
  engine.ghosts().for_each([&](const gpu::Ghost& ghost) {
    if (ghost.model != request.model) return;
    if (ghost.load_time > Duration{}) load_time = ghost.load_time;
    if (ghost.is_offloaded) place = Place::kCached;
  });
  return place;
}

}  // namespace

Outlook outlook_of(const Engine& engine, const Planner& plan, const gpu::Request& request, ProcessId asker,
                   Instant now) {
  Duration load_time = request.load_time > Duration{} ? request.load_time : milliseconds(kUnknownLoad_ms);
  Outlook outlook{.place = place_of(engine, request, load_time)};
  if (const auto has = held(engine, request, asker, load_time, now)) return *has;
  outlook.never_fits = true;
  Instant soonest = kNever;
  for (const CardPlan& card : plan(request, now, waiting(engine, request, asker))) {
    if (card.why == Reason::kNeverFits) continue;
    if (!outlook.never_fits && card.at >= soonest) continue;
    outlook.never_fits = false;
    soonest = card.at;
    put_card(outlook, engine, card.gpu);
  }
  if (soonest != kNever) outlook.usable_in = std::max<Duration>(soonest - now, Duration{}) + load_time;
  return outlook;
}

}  // namespace mesh::arbiter
