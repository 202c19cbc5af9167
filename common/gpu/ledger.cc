#include "common/gpu/ledger.h"

#include <algorithm>

#include "common/base/check.h"

namespace mesh::gpu {

void Ledger::observe_foreign(Units units, Instant now) {
  units = std::max<Units>(units, 0);
  if (!foreign_.empty() && units > foreign_.front().units) lowest_ = foreign_.back().units;
  while (!foreign_.empty() && foreign_.back().units <= units) foreign_.pop_back();
  // Somebody samples faster than he should: the last one is worth more than one sample.
  if (foreign_.size() == bounds::foreign_samples_max) foreign_.pop_back();
  foreign_.push_back({now, units});
  advance(now);
}

void Ledger::observe_context(uint64_t process, Units units) {
  Units& known = contexts_[process];
  contexts_units_ += units - known;
  known = units;
  if (units == 0) contexts_.erase(process);
  impose();
}

void Ledger::advance(Instant now) {
  const Duration window = milliseconds(bounds::foreign_window_ms);
  // What was measured last stays true until something else is measured.
  while (foreign_.size() > 1 && foreign_.front().at + window <= now) foreign_.pop_front();
  if (foreign_.size() == 1) lowest_ = std::min(lowest_, foreign_.front().units);
  impose();
}

bool Ledger::take(LeaseId id, Units units) {
  MESH_CHECK(units > 0);
  if (units > grantable()) return false;
  adopt(id, units);
  return true;
}

bool Ledger::draw(LeaseId id, Units units, Draw use, Instant now) {
  MESH_CHECK(units > 0);
  const Units from_reserve = units - std::max<Units>(capacity() - leased_, 0);
  if (from_reserve <= 0) return take(id, units);
  if (imposed_ > 0 || drawn_units_ + from_reserve > card_.emergency) return false;
  draws_.push_back({id, from_reserve, use, now + milliseconds(bounds::draw_ms_max)});
  drawn_units_ += from_reserve;
  held_[id] += units;
  leased_ += units;
  return true;
}

void Ledger::adopt(LeaseId id, Units units) {
  MESH_CHECK(units > 0);
  held_[id] += units;
  leased_ += units;
  impose();
}

void Ledger::give_back(LeaseId id, Units units) {
  const auto found = held_.find(id);
  MESH_CHECK(found != held_.end() && units >= 0 && units <= found->second);
  found->second -= units;
  leased_ -= units;
  if (found->second == 0) held_.erase(found);
  settle();
}

void Ledger::drop(LeaseId id) {
  if (const Units units = held_by(id); units > 0) give_back(id, units);
}

Units Ledger::held_by(LeaseId id) const {
  const auto found = held_.find(id);
  return found == held_.end() ? 0 : found->second;
}

Units Ledger::grantable() const { return std::max<Units>(capacity() - leased_, 0); }

Units Ledger::excess() const { return std::max<Units>(leased_ - capacity(), 0); }

LeaseId Ledger::overdue_draw(Instant now) const {
  return !draws_.empty() && draws_.front().until <= now ? draws_.front().id : LeaseId{};
}

Pressure Ledger::pressure() const {
  if (imposed_ > 0) return Pressure::kRed;
  const Units growth = foreign_.empty() ? 0 : foreign() - std::min(lowest_, foreign());
  return growth > 0 && capacity() - leased_ < growth ? Pressure::kAmber : Pressure::kGreen;
}

bool Ledger::holds() const {
  Units sum = 0;
  for (const auto& [id, units] : held_) {
    if (units <= 0) return false;
    sum += units;
  }
  Units drawn = 0;
  for (const Drawn& draw : draws_) drawn += draw.units;
  Units contexts = 0;
  for (const auto& [process, units] : contexts_) contexts += units;
  return sum == leased_ && drawn == drawn_units_ && contexts == contexts_units_ && drawn <= card_.emergency &&
         excess() <= drawn_units_ + imposed_;
}

// What came back makes up for draws first: of those who hold nothing any more, then the oldest.
void Ledger::settle() {
  Units repaid = std::max<Units>(drawn_units_ - excess(), 0);
  drawn_units_ -= repaid;
  while (repaid > 0) {
    auto next = std::find_if(draws_.begin(), draws_.end(), [this](const Drawn& draw) { return held_by(draw.id) == 0; });
    if (next == draws_.end()) next = draws_.begin();
    const Units part = std::min(repaid, next->units);
    next->units -= part;
    repaid -= part;
    if (next->units == 0) draws_.erase(next);
  }
  imposed_ = std::min(imposed_, std::max<Units>(excess() - drawn_units_, 0));
}

// Something was measured or taken over: what does not fit by now is nobody's decision here.
void Ledger::impose() {
  settle();
  imposed_ = std::max<Units>(excess() - drawn_units_, 0);
}

}  // namespace mesh::gpu
