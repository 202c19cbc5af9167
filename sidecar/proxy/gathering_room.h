// Room for large messages that are under way into this process: bounded in all, first come first served.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <vector>

#include "common/base/limits.h"

namespace mesh::proxy {

// Sessions by id.
class GatheringRoom {
 public:
  // True if it has room now, or had already; otherwise it waits. One that has grown may overrun the bound, but not
  // enter.
  bool ask(uint64_t session, size_t bytes) {
    if (const auto at = held_.find(session); at != held_.end()) {
      total_ += bytes - at->second;
      at->second = bytes;
      return true;
    }
    for (const Waiting& each : waiting_) {
      if (each.session == session) return false;
    }
    if (waiting_.empty() && fits(bytes)) {
      enter(session, bytes);
      return true;
    }
    waiting_.push_back({session, bytes});
    return false;
  }
  // Appends those who have room now to `admitted`.
  void give_back(uint64_t session, std::vector<uint64_t>& admitted) {
    std::erase_if(waiting_, [&](const Waiting& each) { return each.session == session; });
    if (const auto at = held_.find(session); at != held_.end()) {
      total_ -= at->second;
      held_.erase(at);
    }
    while (!waiting_.empty() && fits(waiting_.front().bytes)) {
      admitted.push_back(waiting_.front().session);
      enter(waiting_.front().session, waiting_.front().bytes);
      waiting_.pop_front();
    }
  }
  bool is_wanted() const { return !waiting_.empty(); }
  size_t total_bytes() const { return total_; }

 private:
  struct Waiting {
    uint64_t session;
    size_t bytes;
  };
  bool fits(size_t bytes) const { return held_.empty() || total_ + bytes <= limits::gathering_bytes; }
  void enter(uint64_t session, size_t bytes) {
    held_[session] = bytes;
    total_ += bytes;
  }

  std::map<uint64_t, size_t> held_;
  std::deque<Waiting> waiting_;
  size_t total_ = 0;
};

}  // namespace mesh::proxy
