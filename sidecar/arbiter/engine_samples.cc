// What is measured of the cards, and of who uses them.
#include <algorithm>
#include <bit>

#include "sidecar/arbiter/engine.h"

namespace mesh::arbiter {

using gpu::LeaseKind;
using gpu::LeaseState;
using gpu::mask_of;
namespace bounds = gpu::bounds;

void Engine::take(const GpuSampled& event, Instant now, Actions& out) {
  if (event.gpu >= gpus_.size()) return;
  GpuState& state = gpus_[event.gpu];
  state.is_sampled = true;
  if (event.has_heat) state.thermal.observe(event.celsius, event.is_slowed, now);
  std::vector<gpu::ProcessUse> known;
  if (config_.sees_processes) {
    for (const ProcessSample& sample : event.processes) {
      see(event.gpu, sample.process, sample.used, now, out);
      gpu::ProcessUse use = use_of(event.gpu, sample.process, sample.used);
      use.leased += unseen_of(event.gpu, sample.process);  // the ledger holds it, too
      if (use.leased + use.context > 0) known.push_back(use);
    }
  }
  Units own = state.pool.free().units();
  for (const auto& [id, entry] : entries_) {
    if ((entry.lease.on & mask_of(event.gpu)) == 0) continue;
    const bool is_ours = entry.lease.request.kind == LeaseKind::kBacked || !config_.sees_processes;
    if (is_ours) own += entry.lease.units + entry.unseen;
  }
  segments_.for_each([&](const gpu::Segment& segment) { own += segment.key.gpu == event.gpu ? segment.units : 0; });
  state.ledger.observe_foreign(gpu::foreign_of(event.used, own, known), now);
}

void Engine::see(GpuIndex gpu, ProcessId process, Units used, Instant now, Actions& out) {
  GpuState& state = gpus_[gpu];
  const bool has_lease = std::any_of(entries_.begin(), entries_.end(), [&](const auto& each) {
    const Entry& entry = each.second;
    return entry.lease.used_by == process && (entry.lease.on & mask_of(gpu)) != 0;
  });
  if (!has_lease) return;  // what it uses is foreign
  const gpu::ProcessUse use = use_of(gpu, process, used);
  const Units unseen = unseen_of(gpu, process);
  const bool has_lost = std::any_of(entries_.begin(), entries_.end(), [&](const auto& each) {
    return each.second.lease.used_by == process && each.second.is_lost;
  });
  const auto known = state.contexts.find(process);
  if (known == state.contexts.end()) {
    // While its leases are not filled nobody can tell them from its context, and they cover it. Of what goes beyond
    // them so much is taken for its context once; and so is what is left when it says that all is free.
    const Units beyond = used - use.leased - unseen;
    const bool is_all_back = unseen > 0 && !has_lost && used - use.leased <= bounds::context_units_max;
    if (beyond > 0 || is_all_back) learn_context(gpu, process, is_all_back ? used - use.leased : beyond);
  } else if (used < known->second) {
    learn_context(gpu, process, used);
  }
  const gpu::ProcessUse learned = use_of(gpu, process, used);
  police(gpu, process, learned, now, out);
  look_for_unseen(gpu, process, learned, now, out);
}

void Engine::learn_context(GpuIndex gpu, ProcessId process, Units units) {
  const Units context = std::clamp<Units>(units, 0, bounds::context_units_max);
  if (context > 0) {
    gpus_[gpu].contexts[process] = context;
  } else if (gpus_[gpu].contexts.erase(process) == 0) {
    return;
  }
  gpus_[gpu].ledger.observe_context(process, context);
}

// What it said to be free.
Units Engine::unseen_of(GpuIndex gpu, ProcessId process) const {
  Units sum = 0;
  for (const auto& [id, entry] : entries_) {
    if (entry.lease.used_by == process && (entry.lease.on & mask_of(gpu)) != 0) sum += entry.unseen;
  }
  return sum;
}

// What it may use: what it said to be free is not in it.
gpu::ProcessUse Engine::use_of(GpuIndex gpu, ProcessId process, Units used) const {
  gpu::ProcessUse use{used, 0, 0};
  for (const auto& [id, entry] : entries_) {
    const gpu::Lease& lease = entry.lease;
    const bool counts =
        lease.used_by == process && (lease.on & mask_of(gpu)) != 0 && lease.request.kind == LeaseKind::kAccounted;
    if (counts) use.leased += lease.units;
  }
  const auto context = gpus_[gpu].contexts.find(process);
  if (context != gpus_[gpu].contexts.end()) use.context = context->second;
  return use;
}

// All of it, by who leased it for another and cannot know when that one is through: it is no use to ask again.
bool Engine::is_given_back(const Entry& entry) {
  const bool may_be_ended = entry.ladder && entry.lease.request.revocability == gpu::Revocability::kKill;
  return entry.lease.process != entry.lease.used_by && entry.lease.units == 0 && !may_be_ended;
}

// Nobody can say when the rest of it will be free, nor make it free.
bool Engine::is_overdue(const Entry& entry, Instant now) {
  const bool is_nobodys = entry.is_lost || is_given_back(entry);
  return is_nobodys && entry.unseen > 0 && now - entry.unseen_since >= milliseconds(bounds::verify_ms);
}

// Of what it may use what it has certainly filled by now: in the rest may lie what it said to be free.
gpu::ProcessUse Engine::filled_of(GpuIndex gpu, ProcessId process, const gpu::ProcessUse& use, Instant now) const {
  gpu::ProcessUse filled = use;
  for (const auto& [id, entry] : entries_) {
    const gpu::Lease& lease = entry.lease;
    if (lease.used_by != process || (lease.on & mask_of(gpu)) == 0 || lease.request.kind != LeaseKind::kAccounted)
      continue;
    const Duration loads = std::max<Duration>(3 * lease.request.load_time, milliseconds(bounds::filled_ms_min));
    if (!lease.is_committed && now - lease.granted_at < loads) filled.leased -= lease.units;
  }
  return filled;
}

// What was said to be free and was not may be so later, and then its holder knows it no more: nobody says it again.
void Engine::look_for_released(GpuIndex gpu, ProcessId process, gpu::ProcessUse& use, Instant now, Actions& out) {
  for (auto& [id, entry] : entries_) {
    gpu::Lease& lease = entry.lease;
    const bool is_there = lease.units > 0 && (lease.on & mask_of(gpu)) != 0;
    if (!entry.is_released || !is_there || lease.used_by != process || lease.request.kind != LeaseKind::kAccounted)
      continue;
    gpu::ProcessUse without = use;
    without.leased -= lease.units;
    if (gpu::is_overuse(without)) continue;
    use = without;
    end_ladder(entry);
    if (lease.state != LeaseState::kDying) lease.become(LeaseState::kDraining);
    give_up(entry, lease.units, {}, now, out);
  }
}

void Engine::look_for_unseen(GpuIndex gpu, ProcessId process, gpu::ProcessUse use, Instant now, Actions& out) {
  look_for_released(gpu, process, use, now, out);
  const bool is_free = !gpu::is_overuse(use);
  const bool is_free_at_most = !gpu::is_overuse(filled_of(gpu, process, use, now));
  // Of two that are looked for nobody can tell which one is still there.
  const bool has_given_back = std::any_of(entries_.begin(), entries_.end(), [&](const auto& each) {
    const Entry& entry = each.second;
    return entry.lease.used_by == process && (entry.lease.on & mask_of(gpu)) != 0 && entry.unseen > 0 &&
           (entry.is_lost || is_given_back(entry));
  });
  std::vector<LeaseId> seen;
  for (auto& [id, entry] : entries_) {
    gpu::Lease& lease = entry.lease;
    if (lease.used_by != process || entry.unseen == 0 || (lease.on & mask_of(gpu)) == 0) continue;
    // Nobody said of a lost one that it is free: nothing of it may be left, nor hide in another that is not filled yet.
    const bool is_seen = lease.process == process ? is_free : is_free_at_most;
    if (entry.is_lost ? use.leased + use.beyond() == 0 : is_seen) {
      entry.seen_on |= mask_of(gpu);
      if (entry.seen_on == lease.on) seen.push_back(id);
    } else if (is_given_back(entry)) {
      // It is looked for however long that takes, and who waits for it has others asked meanwhile.
      if (entry.ladder && is_overdue(entry, now)) leave_to_others(entry, now);
    } else if (!entry.is_lost && !has_given_back && now - entry.unseen_since >= milliseconds(bounds::verify_ms)) {
      // It is not free, whatever was said.
      lease.units += std::exchange(entry.unseen, 0);
      if (entry.ladder) {
        climb(entry, entry.ladder->refused(now), now, out);
      } else {
        end_ladder(entry);
      }
    }
  }
  for (const LeaseId id : seen) {
    Entry& entry = entries_.at(id);
    come_back(entry, std::exchange(entry.unseen, 0), {}, now, out);
  }
}

void Engine::police(GpuIndex gpu, ProcessId process, const gpu::ProcessUse& use, Instant now, Actions& out) {
  Policed& policed = policed_[process];
  // What it said to be free counts as its own until that has taken its time: freeing is not instant.
  gpu::ProcessUse lenient = use;
  lenient.leased += unseen_of(gpu, process);
  for (const auto& [id, entry] : entries_) {
    if (entry.lease.used_by != process || (entry.lease.on & mask_of(gpu)) == 0) continue;
    if (entry.lease.request.kind == LeaseKind::kBacked) lenient.leased += entry.lease.units;
    if (const gpu::Segment* segment = segments_.find(entry.segment)) lenient.leased += segment->units;
  }
  policed.on[gpu].observe(lenient);
  const bool is_over =
      std::any_of(policed.on.begin(), policed.on.end(), [](const auto& each) { return each.second.is_over(); });
  if (is_over && !policed.is_reported) out.push_back(RecordDecision{{}, process, Reason::kPoliced, gpu, use.beyond()});
  policed.is_reported = is_over;
  if (!policed.on[gpu].is_stubborn()) return;
  for (auto& [id, entry] : entries_) {
    if (entry.lease.used_by == process && (entry.lease.on & mask_of(gpu)) != 0 && may_ask(entry, now)) {
      evict(id, {}, gpu, now, out);
    }
  }
}

}  // namespace mesh::arbiter
