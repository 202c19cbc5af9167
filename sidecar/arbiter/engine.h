// The GPU arbiter as a value: one event and the time in, a list of actions out. It knows nothing outside.
//
// Memory is granted out of what the ledger of a card says is nobody's; it is nobody's again when it was seen to be
// free, its chunks came back, or its process is gone, and by nothing else. Each event is followed by the same round:
// pools give way to leases, who waits is tried in his turn, and for who does not fit others are asked to yield.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <vector>

#include "common/gpu/backfill.h"
#include "common/gpu/fair_share.h"
#include "common/gpu/queue.h"
#include "common/gpu/segments.h"
#include "sidecar/arbiter/events.h"
#include "sidecar/arbiter/operator_words.h"
#include "sidecar/arbiter/state.h"

namespace mesh::arbiter {

class Engine {
 public:
  // GPUs in the order of their UUIDs.
  explicit Engine(ArbiterConfig config);
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Before anything else: what the arbiter before this one wrote down, in that order; nothing at the first start.
  void begin(std::span<const JournalEntry> journal, Instant now, Actions& out);

  // Appends what is to be done to `out`. `now` never goes back.
  template <class Event>
  void on(const Event& event, Instant now, Actions& out) {
    take(event, now, out);
    settle(now, out);
  }
  // Does what is due.
  void on_time(Instant now, Actions& out);
  // The earliest time at which on_time() has something to do.
  Instant next_deadline() const;

  // What would become of a request, for each of its cards, if somebody without a lease made it now; or what will, if it
  // waits already under that id.
  std::vector<CardPlan> plan(const gpu::Request& request, Instant now, LeaseId waiting = {});
  // What an EvictionOrdered would do.
  Eviction eviction_of(LeaseId id, Instant now);

  // Whether all books agree: those of each card, and each lease and segment with what is held for it.
  bool holds() const;
  uint64_t epoch() const { return epoch_; }
  bool is_reconciled(Instant now) const;
  // When it was last told something.
  Instant settled_at() const { return settled_at_; }
  const std::vector<GpuState>& gpus() const { return gpus_; }
  const Entries& entries() const { return entries_; }
  const gpu::Segments& segments() const { return segments_; }
  const gpu::Queue& queue() const { return queue_; }
  const gpu::Ghosts& ghosts() const { return ghosts_; }

 private:
  // engine.cc: leases and those who hold them.
  void take(const LeaseAsked& event, Instant now, Actions& out);
  void take(const LeaseCommitted& event, Instant now, Actions& out);
  void take(const LeaseRenewed& event, Instant now, Actions& out);
  void take(const LeaseUsed& event, Instant now, Actions& out);
  void take(const LiveReported& event, Instant now, Actions& out);
  void take(const LeaseReleased& event, Instant now, Actions& out);
  void take(const ConnectionClosed& event, Instant now, Actions& out);
  void take(const ProcessEnded& event, Instant now, Actions& out);
  void leave_behind(Entry& entry, Instant now, Actions& out);
  Reason refusal(const LeaseAsked& event, Units& largest, Instant now) const;
  Units largest(const gpu::Request& request) const;
  Entry* find(const LeaseName& name, Actions& out);
  static void unknown(const LeaseName& name, Actions& out);
  void settle(Instant now, Actions& out);

  // engine_memory.cc: what is held, and how it comes back.
  bool is_known_free(const Entry& entry) const;
  bool give_up(Entry& entry, Units units, const Extents& extents, Instant now, Actions& out);
  void lose(Entry& entry, Instant now, Actions& out);
  void come_back(Entry& entry, Units units, const Extents& extents, Instant now, Actions& out);
  void finish(LeaseId id, Instant now, Actions& out);
  void leave_segment(Entry& entry, bool is_gone, Instant now, Actions& out);
  void drop_segment(const gpu::Segment& segment, Actions& out);
  void trim_pools(Actions& out);
  void write(const Entry& entry, Actions& out);
  void write(const gpu::Segment& segment, Actions& out);
  void take(const ChunksCreated& event, Instant now, Actions& out);
  void take(const SegmentWritten& event, Instant now, Actions& out);

  // engine_admit.cc: who is granted what.
  void admit(Instant now, Actions& out);
  bool grant_next(Instant now, Actions& out);
  bool is_complete(const gpu::Reservation& reservation, const gpu::Waiter& holder) const;
  bool try_grant(const gpu::Waiter& waiter, Instant now, Actions& out);
  bool draw_on_reserve(const gpu::Waiter& waiter, Instant now, Actions& out);
  Reason closed(const gpu::Waiter& waiter, GpuIndex gpu) const;
  Units free_for(const gpu::Waiter& waiter, GpuIndex gpu, Reason& why, Instant now);
  static bool is_left_of(const Entry& asks, const Entry& other, GpuIndex gpu);
  Units free_with_left(const gpu::Waiter& waiter, GpuIndex gpu) const;
  void take_up(const Entry& asks, GpuIndex gpu, Units units, Instant now, Actions& out);
  bool may_pass(const gpu::Waiter& waiter, const gpu::Waiter& holder, GpuIndex gpu, Units units, Instant now);
  const gpu::Shadow& shadow(const gpu::Waiter& holder, GpuIndex gpu, Instant now);
  void grant(Entry& entry, GpuMask on, Units units, Instant now, Actions& out);
  void hand_over(Entry& entry, Actions& out);
  void create_chunks(Entry& entry, GpuIndex gpu, Units units, Actions& out);
  void refuse(Entry& entry, Code code, Reason reason, Actions& out);
  void fail_segment(const Entry& entry, Instant now, Actions& out);
  void explain(LeaseId id, Reason reason, GpuIndex gpu, Units missing, Actions& out);
  GpuMask roomy(const gpu::Waiter& waiter);
  void reserve_for_aged(Instant now);

  // engine_segments.cc: shared weights, and those who read them.
  const gpu::Segment* segment_of(const Entry& entry);
  bool join_segment(Entry& entry, const gpu::Segment& known, Instant now, Actions& out);
  bool is_in_the_way(const gpu::Segment& segment, Instant now) const;
  bool needs_memory(const gpu::Waiter& waiter);
  bool may_ask_readers(const gpu::Segment& segment, const gpu::Waiter* waiter, Instant now) const;
  bool is_asked_back(const gpu::Segment& segment) const;
  void ask_readers(const gpu::Segment& segment, LeaseId beneficiary, Instant now, Actions& out);
  bool is_still_wanted(const gpu::Segment& segment, LeaseId beneficiary) const;
  void evict_segment(const gpu::Segment& segment, Instant now, Actions& out);

  // engine_pace.cc: who computes.
  bool is_resting(GpuMask on) const;
  Instant begins_at(const Entry& entry) const;
  static void begin(Entry& entry, Actions& out);
  void pace(Instant now, Actions& out);

  // engine_reclaim.cc: who is asked to yield.
  void take(const YieldAcknowledged& event, Instant now, Actions& out);
  void take(const YieldDone& event, Instant now, Actions& out);
  bool reclaim(Instant now, Actions& out);
  bool reclaim_for(const gpu::Waiter& waiter, Instant now, Actions& out);
  std::optional<gpu::Victims> victims_for(const gpu::Waiter& waiter, GpuIndex gpu, Reason& why, Instant now);
  std::vector<gpu::Candidate> candidates(GpuIndex gpu, const gpu::Waiter* waiter, Instant now) const;
  bool is_patient(const gpu::Waiter& waiter, Instant now) const;
  bool may_ask(const Entry& entry, Instant now) const;
  static bool will_yield(const Entry& entry, Instant now);
  bool is_due(const Entry& entry, const gpu::Waiter& waiter, Instant now) const;
  bool may_take(const Entry& entry, const gpu::Waiter& waiter, Instant now) const;
  gpu::ClassUnits held_by_class(GpuIndex gpu) const;
  Units yielding(GpuIndex gpu, LeaseId waiter, Instant now) const;
  void relieve(Instant now, Actions& out);
  void relieve_heat(GpuIndex gpu, Instant now, Actions& out);
  bool evict(LeaseId id, LeaseId beneficiary, GpuIndex gpu, Instant now, Actions& out);
  void ask_yield(Entry& entry, gpu::Revocability agreed, Units units, LeaseId beneficiary, Instant now, Actions& out);
  void climb(Entry& entry, gpu::Rung rung, Instant now, Actions& out);
  static void end_ladder(Entry& entry);
  void leave_to_others(Entry& entry, Instant now);

  // engine_samples.cc: what is measured.
  void take(const GpuSampled& event, Instant now, Actions& out);
  void see(GpuIndex gpu, ProcessId process, Units used, Instant now, Actions& out);
  Units unseen_of(GpuIndex gpu, ProcessId process) const;
  void learn_context(GpuIndex gpu, ProcessId process, Units units);
  static bool is_given_back(const Entry& entry);
  static bool is_overdue(const Entry& entry, Instant now);
  gpu::ProcessUse filled_of(GpuIndex gpu, ProcessId process, const gpu::ProcessUse& use, Instant now) const;
  void look_for_released(GpuIndex gpu, ProcessId process, gpu::ProcessUse& use, Instant now, Actions& out);
  void look_for_unseen(GpuIndex gpu, ProcessId process, gpu::ProcessUse use, Instant now, Actions& out);
  void police(GpuIndex gpu, ProcessId process, const gpu::ProcessUse& use, Instant now, Actions& out);
  gpu::ProcessUse use_of(GpuIndex gpu, ProcessId process, Units used) const;

  // engine_recover.cc: after a restart.
  void take(const LeasePresented& event, Instant now, Actions& out);
  void adopt(const JournalEntry& entry, Instant now, Actions& out);
  void adopt_segment(const JournalEntry& entry);
  void give_up_orphans(Instant now, Actions& out);

  // engine_operator.cc: what people order and ask.
  void take(const EvictionOrdered& event, Instant now, Actions& out);
  void take(const DrainOrdered& event, Instant now, Actions& out);
  CardPlan plan_on(const gpu::Waiter& waiter, GpuIndex gpu, Instant now);

  struct Policed {
    std::map<GpuIndex, gpu::Policer> on{};
    bool is_reported = false;
  };

  ArbiterConfig config_;
  std::vector<GpuState> gpus_;
  Entries entries_;
  gpu::Segments segments_;
  gpu::FairShare shares_;
  gpu::Queue queue_;
  gpu::Ghosts ghosts_;
  gpu::ReturnTickets tickets_;
  std::map<ProcessId, Policed> policed_;
  std::vector<std::optional<gpu::Shadow>> shadows_;  // by GPU, while who waits is tried
  uint64_t epoch_ = 1;
  Instant reconcile_until_{};
  Instant settled_at_{};
};

}  // namespace mesh::arbiter
