// Room for large messages that are under way into this process: bounded in all.
//
// Like two lifts, one for parcels and one for furniture, so that a few wardrobes do not keep the parcels out. Who is
// inside goes on; when it is full, others wait, and of them who came last goes first. That is not fair, but where there
// is a crowd it is the crowd that waits, and honest messages are through in milliseconds.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

#include "common/base/limits.h"

namespace mesh::proxy {

// Sessions by id.
class GatheringRoom {
 public:
  // True if it has room for a message of so many bytes, or had already; otherwise it waits. One that has grown may
  // overrun the bound, but not enter. Appends those who have room now to `admitted`.
  bool ask(uint64_t session, size_t bytes, std::vector<uint64_t>& admitted) {
    const bool is_large = bytes > limits::gathering_small_bytes;
    if (is_large) small_.leave(session, admitted);  // it has grown
    return (is_large || large_.knows(session) ? large_ : small_)
        .ask(session, std::min(bytes, limits::gathering_share_bytes));
  }
  // Its message is whole, or will never be.
  void give_back(uint64_t session, std::vector<uint64_t>& admitted) {
    small_.leave(session, admitted);
    large_.leave(session, admitted);
  }
  // Others wait for the room that it has.
  bool is_wanted_from(uint64_t session) const {
    return small_.is_wanted_from(session) || large_.is_wanted_from(session);
  }

 private:
  class Lift {
   public:
    bool knows(uint64_t session) const { return held_.contains(session) || is_waiting(session); }
    bool is_wanted_from(uint64_t session) const { return !waiting_.empty() && held_.contains(session); }
    bool ask(uint64_t session, size_t bytes) {
      if (const auto at = held_.find(session); at != held_.end()) {
        total_bytes_ += bytes - at->second;
        at->second = bytes;
        return true;
      }
      if (is_waiting(session)) return false;
      if (fits(bytes)) {
        enter(session, bytes);
        return true;
      }
      waiting_.push_back({session, bytes});
      return false;
    }
    void leave(uint64_t session, std::vector<uint64_t>& admitted) {
      std::erase_if(waiting_, [&](const Waiting& each) { return each.session == session; });
      if (const auto at = held_.find(session); at != held_.end()) {
        total_bytes_ -= at->second;
        held_.erase(at);
      }
      while (!waiting_.empty() && fits(waiting_.back().bytes)) {
        admitted.push_back(waiting_.back().session);
        enter(waiting_.back().session, waiting_.back().bytes);
        waiting_.pop_back();
      }
    }

   private:
    struct Waiting {
      uint64_t session;
      size_t bytes;
    };
    bool is_waiting(uint64_t session) const {
      return std::any_of(waiting_.begin(), waiting_.end(),
                         [&](const Waiting& each) { return each.session == session; });
    }
    bool fits(size_t bytes) const { return total_bytes_ + bytes <= limits::gathering_bytes; }
    void enter(uint64_t session, size_t bytes) {
      held_[session] = bytes;
      total_bytes_ += bytes;
    }

    std::map<uint64_t, size_t> held_;
    std::vector<Waiting> waiting_;
    size_t total_bytes_ = 0;
  };

  Lift small_;
  Lift large_;
};

}  // namespace mesh::proxy
