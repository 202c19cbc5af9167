// Which numbers are in use: a few hundred at most times, put in and taken out once per call.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace mesh {

// A hash table with linear probing that closes its gaps when an id goes (Knuth, TAOCP volume 3, section 6.4, algorithm
// R), so it needs no tombstones and no allocation per id. Twice as large as it has ids, at least.
class IdSet {
 public:
  // False if it is in already.
  bool insert(uint64_t id) {
    if (2 * (size_ + 1) > places_.size()) grow();
    size_t at = home_of(id);
    for (; places_[at].used; at = next(at)) {
      if (places_[at].id == id) return false;
    }
    places_[at] = {id, true};
    ++size_;
    return true;
  }
  // No effect if it is not in.
  void erase(uint64_t id) {
    if (size_ == 0) return;
    size_t at = home_of(id);
    for (; !(places_[at].used && places_[at].id == id); at = next(at)) {
      if (!places_[at].used) return;
    }
    size_t gap = at;
    for (at = next(at); places_[at].used; at = next(at)) {
      // One that lies between its home and here may not jump over its home.
      const size_t from_home = (at - home_of(places_[at].id)) & mask();
      if (from_home < ((at - gap) & mask())) continue;
      places_[gap] = places_[at];
      gap = at;
    }
    places_[gap].used = false;
    --size_;
  }
  bool contains(uint64_t id) const {
    if (size_ == 0) return false;
    for (size_t at = home_of(id); places_[at].used; at = next(at)) {
      if (places_[at].id == id) return true;
    }
    return false;
  }
  size_t size() const { return size_; }

 private:
  struct Place {
    uint64_t id = 0;
    bool used = false;
  };
  static constexpr size_t kPlacesMin = 16;

  size_t mask() const { return places_.size() - 1; }
  size_t next(size_t at) const { return (at + 1) & mask(); }
  // Fibonacci hashing: the ids of a peer may all end in the same bits.
  size_t home_of(uint64_t id) const { return static_cast<size_t>((id * 0x9E3779B97F4A7C15ULL) >> 32) & mask(); }
  void grow() {
    std::vector<Place> before(places_.empty() ? kPlacesMin : 2 * places_.size());
    before.swap(places_);
    size_ = 0;
    for (const Place& place : before) {
      if (place.used) insert(place.id);
    }
  }

  std::vector<Place> places_;
  size_t size_ = 0;
};

}  // namespace mesh
