// Who waits for VRAM, and in which order they are tried.
//
// Between priorities the one goes first that had least for its weight (fair_share.h), within one the earliest deadline.
// What is large would wait for ever behind what is small: so who has waited too long may reserve, and others go first
// only as backfill.h allows. Of those who waited too long it is the oldest of the priority whose turn it is: if it was
// the oldest of all, then under load, where all wait long, ages would count and weights would not.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "common/base/instant.h"
#include "common/base/priority.h"
#include "common/gpu/bounds.h"
#include "common/gpu/fair_share.h"
#include "common/gpu/units.h"

namespace mesh::gpu {

struct Waiter {
  LeaseId id{};
  Priority priority = Priority::kNormal;
  Units least = 0;  // on each GPU
  Units ask = 0;
  GpuMask gpus = 0;
  uint8_t gpu_count = 1;
  Instant asked_at{};
  Instant deadline{};
  Duration hold{};  // 0: unknown
  bool revocable = false;
  ModelKey model{};

  // Whether it has waited long enough to have memory held back for it, and from when on.
  Instant aged_at() const;
};

// Memory on these GPUs that comes free is for this waiter.
struct Reservation {
  LeaseId id{};
  GpuMask on = 0;
  Instant since{};
};

class Queue {
 public:
  // False if it is full. The deadline is at most bounds::wait_ms_max away.
  bool push(Waiter waiter, FairShare& shares);
  // Its reservation goes with it. Nothing if it does not wait.
  std::optional<Waiter> remove(LeaseId id);
  const Waiter* find(LeaseId id) const;

  // All who wait, in the order in which they are tried. Valid until the next call that changes something.
  const std::vector<const Waiter*>& order(const FairShare& shares);
  // Those who wait for this model go first in their priority: it is being loaded again and again.
  void favour(ModelKey model) { favourite_ = model; }

  // Who may reserve now, as enough GPUs are open to it; null if nobody may.
  using OpenFor = std::function<GpuMask(const Waiter&)>;
  const Waiter* next_to_reserve(const FairShare& shares, Instant now, const OpenFor& open_for) const;
  void reserve(LeaseId id, GpuMask on, Instant now) { reservations_.push_back({id, on, now}); }
  void unreserve(LeaseId id);
  const std::vector<Reservation>& reservations() const { return reservations_; }
  // The one on that GPU; null if there is none.
  const Reservation* reserved(size_t gpu) const;
  // Whose it is; null if it has none.
  const Reservation* reservation_of(LeaseId id) const;
  GpuMask reserved_gpus() const;

  // Those whose deadline has passed; they are out then.
  void expire(Instant now, std::vector<Waiter>& expired);
  // When somebody's deadline passes, or he comes to the age at which he may reserve.
  Instant next_deadline(Instant now) const;
  size_t size() const { return size_; }
  size_t waiting(Priority priority) const { return waiting_[static_cast<size_t>(priority)].size(); }

 private:
  bool is_before(const Waiter& a, const Waiter& b) const;

  std::array<std::vector<Waiter>, kPriorities> waiting_;  // as they came
  std::vector<Reservation> reservations_;
  std::vector<const Waiter*> order_;
  ModelKey favourite_{};
  size_t size_ = 0;
};

}  // namespace mesh::gpu
