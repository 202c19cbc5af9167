// What was declared wrong, and when: so that a purge is one note, however much is kept, and wins against whoever still
// fetches what was right before.
//
// Every kept reply and every fetch under way remembers the position of the book at which it began; it holds as long as
// none of its names was purged behind that. Names are name_hash()es of tags, methods and services, and a key's own.
// They are not kept: each has a place, which it may share, and then more becomes wrong than had to be.
//
// The book of one process, or of all that map the same words. Nobody waits for a process that is stopped or dead. A
// purge first raises its place to one more than the position it saw, and then makes the position that, if it is still
// the one it saw; else it begins anew, and then another has got on. So whoever reads a position sees all purges up to
// it: were the position raised first, a fetch could begin at it, still find what is about to become wrong in another
// tier, and keep it under a position that the purge does not reach. Of a purge that was cut off between the two steps
// there is no harm: nobody was told that it is done, and what it hits already is only fetched again. That a purge has
// returned means that no `holds` that begins later misses it.
//
// Positions of different books say nothing about each other; what was found by this book's rules keeps its `since`.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <span>
#include <vector>

#include "common/base/check.h"
#include "common/cache/request.h"
#include "common/cache/shared_words.h"

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
  // In so many words there are that many places, a power of two.
  static constexpr size_t words_for(size_t places) { return places + kPlacesAt; }
  static constexpr size_t kPrivatePlaces = 8'192;
  static constexpr size_t kSharedPlaces = 65'536;

  // In memory of its own.
  Purges() : own_(words_for(kPrivatePlaces)), words_(own_) {}
  // words_for() some power of two, which outlive this; all 0 is an empty book.
  explicit Purges(std::span<uint64_t> words) : words_(words) {
    MESH_CHECK(words.size() > kPlacesAt && std::has_single_bit(words.size() - kPlacesAt));
  }
  Purges(const Purges&) = delete;
  Purges& operator=(const Purges&) = delete;
  Purges(Purges&&) = default;
  Purges& operator=(Purges&&) = default;

  // What begins now holds against all that was purged before.
  uint64_t position() const { return load(words_[kPosition]); }

  // Gives back its position: all that has a smaller `since` is hit.
  uint64_t purge(uint64_t name) { return note(place_of(name)); }
  uint64_t purge_all() { return note(words_[kAllAt]); }
  // A position of its own: what begins behind it is told from what began before.
  uint64_t mark() { return Word(words_[kPosition]).fetch_add(1) + 1; }
  // Of what began before a mark. What begins meanwhile may find what is about to become wrong: it is for what this
  // process itself fetched.
  void purge_before(uint64_t mark, uint64_t name) { raise(place_of(name), mark); }

  // What began before this does not hold.
  uint64_t purged_up_to(const Names& names) const {
    uint64_t latest = load(words_[kAllAt]);
    for (const uint64_t name : {names.service, names.method, names.key})
      latest = std::max(latest, load(place_of(name)));
    for (const uint64_t tag : names.tags) latest = std::max(latest, load(place_of(tag)));
    return latest;
  }
  bool holds(uint64_t since, const Names& names) const {
    if (since >= position()) return true;
    if (since < load(words_[kAllAt]) || is_purged(since, names.service) || is_purged(since, names.method)) return false;
    if (is_purged(since, names.key)) return false;
    for (const uint64_t tag : names.tags) {
      if (is_purged(since, tag)) return false;
    }
    return true;
  }

 private:
  static constexpr size_t kPosition = 0;
  static constexpr size_t kAllAt = 8;  // in another line of the processor's cache
  static constexpr size_t kPlacesAt = 16;

  uint64_t& place_of(uint64_t name) const { return words_[kPlacesAt + (name & (words_.size() - kPlacesAt - 1))]; }
  bool is_purged(uint64_t since, uint64_t name) const { return load(place_of(name)) > since; }
  uint64_t note(uint64_t& place) {
    uint64_t seen = position();
    do {
      raise(place, seen + 1);
    } while (!Word(words_[kPosition]).compare_exchange_strong(seen, seen + 1));
    return seen + 1;
  }

  std::vector<uint64_t> own_;
  std::span<uint64_t> words_;
};

}  // namespace mesh::cache
