#include "common/routing/keyed_calls.h"

#include <algorithm>
#include <utility>

#include "common/base/check.h"

namespace mesh::routing {

const KeyedCalls::Entry* KeyedCalls::find(const wire::Digest& key) const {
  const auto at = entries_.find(key);
  return at == entries_.end() ? nullptr : &at->second;
}

void KeyedCalls::open(const wire::Digest& key, const wire::Digest& payload, uint64_t call, bool is_durable) {
  Entry entry;
  entry.payload = payload;
  entry.open_call = call;
  entry.is_durable = is_durable;
  const bool is_new = entries_.try_emplace(key, std::move(entry)).second;
  MESH_CHECK(is_new);
}

void KeyedCalls::end(const wire::Digest& key, Code code, Kept kept, Instant now, Duration age, uint64_t disk_bytes) {
  Entry& entry = entries_.at(key);
  entry.open_call = 0;
  entry.code = code;
  entry.kept = kept;
  entry.disk_bytes = disk_bytes;
  entry.forget_at = now + milliseconds(limits::key_window_ms) - age;
  const auto before = [](const Ended& a, const Ended& b) { return a.forget_at < b.forget_at; };
  const Ended ended{entry.forget_at, key};
  ended_.insert(std::upper_bound(ended_.begin(), ended_.end(), ended, before), ended);
}

void KeyedCalls::keep_body(const wire::Digest& key, const Slice& body, std::vector<uint32_t> part_sizes) {
  Entry& entry = entries_.at(key);
  if (body.size() > limits::kept_result_bytes) return;
  entry.kept = Kept::kInMemory;
  entry.body = body.compact();
  entry.part_sizes = std::move(part_sizes);
  kept_bytes_ += entry.body.size();
  with_body_.push_back(key);
  while (kept_bytes_ > limits::kept_results_bytes) {
    const auto oldest = entries_.find(with_body_.front());
    with_body_.pop_front();
    if (oldest != entries_.end()) drop_body(oldest->second);
  }
}

void KeyedCalls::drop_body(Entry& entry) {
  if (entry.kept != Kept::kInMemory) return;
  kept_bytes_ -= entry.body.size();
  entry.body = Slice();
  entry.part_sizes = {};
  entry.kept = Kept::kNowhere;
}

void KeyedCalls::forget(const wire::Digest& key) {
  const auto at = entries_.find(key);
  if (at == entries_.end()) return;
  drop_body(at->second);
  entries_.erase(at);
}

void KeyedCalls::expire(Instant now, std::vector<wire::Digest>& recorded) {
  while (!ended_.empty() && (ended_.front().forget_at <= now || entries_.size() > limits::keys_max)) {
    const Ended oldest = ended_.front();
    ended_.pop_front();
    const auto at = entries_.find(oldest.key);
    // Another call may have come with the key since it was forgotten.
    if (at == entries_.end() || at->second.open_call != 0 || at->second.forget_at != oldest.forget_at) continue;
    if (at->second.is_durable) recorded.push_back(oldest.key);
    forget(oldest.key);
  }
  while (!with_body_.empty() && !entries_.contains(with_body_.front())) with_body_.pop_front();
}

}  // namespace mesh::routing
