#include "common/gpu/queue.h"

#include <algorithm>
#include <bit>

namespace mesh::gpu {
namespace {

// The priorities, the one that had least first.
std::array<size_t, kPriorities> by_turn(const FairShare& shares) {
  std::array<size_t, kPriorities> turns = {0, 1, 2, 3};
  std::stable_sort(turns.begin(), turns.end(), [&](size_t a, size_t b) {
    return shares.pass(static_cast<Priority>(a)) < shares.pass(static_cast<Priority>(b));
  });
  return turns;
}

bool is_older(const Waiter& a, const Waiter& b) { return a.asked_at < b.asked_at; }

}  // namespace

Instant Waiter::aged_at() const {
  return asked_at + std::min<Duration>(milliseconds(bounds::age_ms), (deadline - asked_at) / 2);
}

bool Queue::push(Waiter waiter, FairShare& shares) {
  if (size_ == bounds::waiters_max) return false;
  const Instant latest = waiter.asked_at + milliseconds(bounds::wait_ms_max);
  waiter.deadline = std::min(waiter.deadline, latest);
  auto& own = waiting_[static_cast<size_t>(waiter.priority)];
  if (own.empty()) {
    std::array<bool, kPriorities> others{};
    for (size_t i = 0; i < kPriorities; ++i) others[i] = !waiting_[i].empty();
    shares.arrive(waiter.priority, others);
  }
  own.push_back(waiter);
  ++size_;
  return true;
}

std::optional<Waiter> Queue::remove(LeaseId id) {
  for (auto& waiting : waiting_) {
    const auto found = std::find_if(waiting.begin(), waiting.end(), [id](const Waiter& w) { return w.id == id; });
    if (found == waiting.end()) continue;
    const Waiter waiter = *found;
    waiting.erase(found);
    --size_;
    unreserve(id);
    return waiter;
  }
  return std::nullopt;
}

void Queue::unreserve(LeaseId id) {
  std::erase_if(reservations_, [id](const Reservation& reservation) { return reservation.id == id; });
}

const Reservation* Queue::reservation_of(LeaseId id) const {
  for (const Reservation& reservation : reservations_) {
    if (reservation.id == id) return &reservation;
  }
  return nullptr;
}

const Waiter* Queue::find(LeaseId id) const {
  for (const auto& waiting : waiting_) {
    for (const Waiter& waiter : waiting) {
      if (waiter.id == id) return &waiter;
    }
  }
  return nullptr;
}

const std::vector<const Waiter*>& Queue::order(const FairShare& shares) {
  order_.clear();
  for (const size_t priority : by_turn(shares)) {
    const auto from = static_cast<std::ptrdiff_t>(order_.size());
    for (const Waiter& waiter : waiting_[priority]) order_.push_back(&waiter);
    std::sort(order_.begin() + from, order_.end(), [this](auto* a, auto* b) { return is_before(*a, *b); });
  }
  return order_;
}

const Waiter* Queue::next_to_reserve(const FairShare& shares, Instant now, const OpenFor& open_for) const {
  for (const size_t priority : by_turn(shares)) {
    const Waiter* oldest = nullptr;
    for (const Waiter& waiter : waiting_[priority]) {
      if (waiter.aged_at() > now || (oldest != nullptr && !is_older(waiter, *oldest))) continue;
      if (reservation_of(waiter.id) != nullptr) continue;
      if (std::popcount(waiter.gpus & open_for(waiter)) >= waiter.gpu_count) oldest = &waiter;
    }
    if (oldest != nullptr) return oldest;
  }
  return nullptr;
}

const Reservation* Queue::reserved(size_t gpu) const {
  for (const Reservation& reservation : reservations_) {
    if ((reservation.on & mask_of(gpu)) != 0) return &reservation;
  }
  return nullptr;
}

GpuMask Queue::reserved_gpus() const {
  GpuMask mask = 0;
  for (const Reservation& reservation : reservations_) mask |= reservation.on;
  return mask;
}

void Queue::expire(Instant now, std::vector<Waiter>& expired) {
  const size_t before = expired.size();
  for (const auto& waiting : waiting_) {
    for (const Waiter& waiter : waiting) {
      if (waiter.deadline <= now) expired.push_back(waiter);
    }
  }
  for (size_t i = before; i < expired.size(); ++i) remove(expired[i].id);
}

Instant Queue::next_deadline(Instant now) const {
  Instant next = kNever;
  for (const auto& waiting : waiting_) {
    for (const Waiter& waiter : waiting) {
      next = std::min(next, waiter.deadline);
      if (waiter.aged_at() > now) next = std::min(next, waiter.aged_at());
    }
  }
  return next;
}

bool Queue::is_before(const Waiter& a, const Waiter& b) const {
  if (favourite_ && (a.model == favourite_) != (b.model == favourite_)) return a.model == favourite_;
  return a.deadline != b.deadline ? a.deadline < b.deadline : is_older(a, b);
}

}  // namespace mesh::gpu
