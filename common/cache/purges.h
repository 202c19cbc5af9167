// What was declared wrong, and when: so that a purge is one note, however much is kept, and wins against whoever still
// fetches what was right before.
//
// Every kept reply and every fetch under way remembers the position of the book at which it began; it holds as long as
// none of its names was purged behind that. Names are name_hash()es of tags, methods and services, and a key's own.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <unordered_map>

#include "common/cache/request.h"

namespace mesh::cache {

// The name of one key among the others.
inline uint64_t key_name(const Hash& hash) { return hash.high ^ 0x6B6579; }

// Who has which names.
struct Names {
  uint64_t service = 0;
  uint64_t method = 0;
  uint64_t key = 0;
  std::span<const uint64_t> tags;
};

class Purges {
 public:
  // What begins now holds against all that was purged before.
  uint64_t position() const { return position_; }

  void purge(uint64_t name) {
    // Beyond this much nobody remembers one by one.
    if (at_.size() >= kNamesMax) return purge_all();
    at_[name] = ++position_;
  }
  // A position of its own: what begins behind it is told from what began before.
  uint64_t mark() { return ++position_; }
  // Of what began before a mark.
  void purge_before(uint64_t mark, uint64_t name) {
    if (at_.size() >= kNamesMax) return purge_all();
    uint64_t& at = at_[name];
    at = std::max(at, mark);
  }
  void purge_all() {
    at_.clear();
    all_at_ = ++position_;
  }

  bool holds(uint64_t since, const Names& names) const {
    if (since >= position_) return true;
    if (since < all_at_ || is_purged(since, names.service) || is_purged(since, names.method)) return false;
    if (is_purged(since, names.key)) return false;
    for (const uint64_t tag : names.tags) {
      if (is_purged(since, tag)) return false;
    }
    return true;
  }

 private:
  static constexpr size_t kNamesMax = 65'536;
  bool is_purged(uint64_t since, uint64_t name) const {
    const auto found = at_.find(name);
    return found != at_.end() && found->second > since;
  }

  uint64_t position_ = 0;
  uint64_t all_at_ = 0;
  std::unordered_map<uint64_t, uint64_t> at_;
};

}  // namespace mesh::cache
