#include "common/gpu/segments.h"

#include <algorithm>

#include "common/base/check.h"

namespace mesh::gpu {

Segment* Segments::find(const SegmentKey& key) {
  const auto found = by_key_.find(key);
  return found == by_key_.end() ? nullptr : &by_id_.at(found->second);
}

Segment* Segments::find(LeaseId id) {
  const auto found = by_id_.find(id);
  return found == by_id_.end() ? nullptr : &found->second;
}

Segment* Segments::create(const SegmentKey& key, LeaseId id, Units units, LeaseId writer, double weight, Instant now) {
  MESH_CHECK(find(key) == nullptr && find(id) == nullptr);
  if (by_id_.size() == bounds::segments_max) return nullptr;
  by_key_[key] = id;
  Segment& made = by_id_[id];
  made.key = key;
  made.id = id;
  made.units = units;
  made.writer = writer;
  made.weight = weight;
  made.load_began = now;
  return &made;
}

Segment* Segments::adopt(const SegmentKey& key, LeaseId id, Units units, Duration load_time) {
  Segment* made = create(key, id, units, {}, 1, Instant{});
  if (made == nullptr) return nullptr;
  made->state = SegmentState::kIdle;
  made->load_time = load_time;
  return made;
}

Segments::Joined Segments::join(Segment& segment, LeaseId lease, double weight, const Worth& worth) {
  if (segment.users.size() + segment.waiting.size() >= bounds::segment_users_max) return Joined::kFull;
  segment.weight = std::max(segment.weight, weight);
  if (segment.state == SegmentState::kLoading || segment.state == SegmentState::kAbandoned) {
    segment.waiting.push_back(lease);
    return Joined::kWaits;
  }
  segment.users.push_back(lease);
  segment.state = SegmentState::kSealed;
  ++segment.uses;
  value(segment, worth);
  return Joined::kShares;
}

bool Segments::seal(Segment& segment, LeaseId writer, const Worth& worth, Instant now, std::vector<LeaseId>& ready) {
  if (segment.state != SegmentState::kLoading || segment.writer != writer) return false;
  segment.state = SegmentState::kSealed;
  segment.load_time = now - segment.load_began;
  segment.writer = {};
  ready.insert(ready.end(), segment.waiting.begin(), segment.waiting.end());
  segment.users = std::move(segment.waiting);
  segment.waiting.clear();
  segment.users.push_back(writer);
  segment.uses = static_cast<uint32_t>(segment.users.size());
  value(segment, worth);
  return true;
}

void Segments::leave(Segment& segment, LeaseId lease, const Worth& worth, Instant now) {
  if (segment.state == SegmentState::kLoading && segment.writer == lease) {
    segment.state = SegmentState::kAbandoned;
    segment.load_began = now;
    return;
  }
  std::erase(segment.waiting, lease);
  std::erase(segment.users, lease);
  settle(segment, worth);
}

std::optional<LeaseId> Segments::promote(Segment& segment, Instant now) {
  MESH_CHECK(segment.state == SegmentState::kLoading || segment.state == SegmentState::kAbandoned);
  segment.writer = {};
  if (segment.waiting.empty()) return std::nullopt;
  segment.state = SegmentState::kLoading;
  segment.load_began = now;
  segment.writer = segment.waiting.front();
  segment.waiting.erase(segment.waiting.begin());
  return segment.writer;
}

void Segments::erase(LeaseId id) {
  const auto found = by_id_.find(id);
  MESH_CHECK(found != by_id_.end() && found->second.users.empty() && found->second.waiting.empty());
  by_key_.erase(found->second.key);
  by_id_.erase(found);
}

std::vector<const Segment*> Segments::idle_on(uint32_t gpu) const {
  std::vector<const Segment*> idle;
  for (const auto& [id, segment] : by_id_) {
    if (segment.state == SegmentState::kIdle && segment.key.gpu == gpu) idle.push_back(&segment);
  }
  return idle;
}

const Segment* Segments::surplus(uint32_t gpu, Units idle_max) const {
  if (idle_units(gpu) <= idle_max) return nullptr;
  const auto idle = idle_on(gpu);
  return *std::min_element(idle.begin(), idle.end(), [](const Segment* a, const Segment* b) {
    return a->score != b->score ? a->score < b->score : a->id < b->id;
  });
}

Units Segments::idle_units(uint32_t gpu) const {
  Units sum = 0;
  for (const Segment* segment : idle_on(gpu)) sum += segment->units;
  return sum;
}

void Segments::value(Segment& segment, const Worth& worth) const {
  segment.score = worth.score(segment.uses, segment.load_time, segment.weight, segment.units);
}

void Segments::settle(Segment& segment, const Worth& worth) {
  if (segment.state != SegmentState::kSealed || !segment.users.empty()) return;
  segment.state = SegmentState::kIdle;
  value(segment, worth);
}

}  // namespace mesh::gpu
