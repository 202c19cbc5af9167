// What the sidecars of a host are fetching at the moment, so that the others wait for it instead of asking as well.
//
// A jacket on a chair: the place is taken, until its owner has not been seen for a while. Nobody is waited for who does
// not say again and again that he is still at it, so one that was stopped or killed holds up nobody for long. A word
// says both what is fetched, by a part of its hash, and until when that is believed; two keys with the same place and
// part take each other for the same, and are fetched one after the other. A second word says at which position of the
// book of purges it began: what became wrong since is nothing to wait for, and its place is free.
#pragma once

#include <bit>
#include <cstdint>
#include <optional>
#include <span>

#include "common/base/check.h"
#include "common/base/instant.h"
#include "common/cache/request.h"
#include "common/cache/shared_words.h"

namespace mesh::cache {

class SharedFlights {
 public:
  static constexpr size_t kPlaces = 4096;
  // Nobody is believed for longer at a time.
  static constexpr int64_t kBelieved_ms = 1000;

  static constexpr size_t kWords = 2 * kPlaces;

  // Two words for each place, of which there are a power of two; they outlive this, and 0 is a free place. The clock is
  // the same in all processes.
  explicit SharedFlights(std::span<uint64_t> words)
      : words_(words.first(words.size() / 2)), since_(words.subspan(words.size() / 2)) {
    MESH_CHECK(words.size() > 1 && std::has_single_bit(words.size()));
  }

  // That this process fetches it; to be extended, and to be ended by whoever has it.
  struct Mark {
    size_t place;
    uint64_t word;
  };

  // `right_from`: what began before that position does not hold.
  bool is_under_way(const Hash& hash, Instant now, uint64_t right_from = 0) const {
    const size_t place = place_of(hash);
    const uint64_t word = load(words_[place]);
    return tag_of(word) == tag_of(hash) && is_believed(word, now) && load(since_[place]) >= right_from;
  }
  // Nothing if it is under way already, or another key's is at its place. `until` is less than kBelieved_ms away.
  std::optional<Mark> begin(const Hash& hash, Instant now, Instant until, uint64_t since = 0, uint64_t right_from = 0) {
    const size_t place = place_of(hash);
    uint64_t was = load(words_[place]);
    if (is_believed(was, now) && (tag_of(was) != tag_of(hash) || load(since_[place]) >= right_from)) return {};
    uint64_t word = tag_of(hash) | ms_of(until);
    if (word == was) ++word;  // or its owner would take this for its own
    if (!Word(words_[place]).compare_exchange_strong(was, word)) return std::nullopt;
    Word(since_[place]).store(since);  // who looks in between takes it for wrong, and asks as well
    return Mark{place, word};
  }
  // False if it was late, and another has the place.
  bool extend(Mark& mark, Instant until) {
    const uint64_t word = (mark.word & ~kUntil) | ms_of(until);
    uint64_t was = mark.word;
    if (!Word(words_[mark.place]).compare_exchange_strong(was, word)) return false;
    mark.word = word;
    return true;
  }
  void end(const Mark& mark) {
    uint64_t was = mark.word;
    Word(words_[mark.place]).compare_exchange_strong(was, 0);
  }

 private:
  static constexpr uint64_t kUntil = (uint64_t{1} << 40) - 1;  // milliseconds: 34 years of a clock that starts with 0

  size_t place_of(const Hash& hash) const { return hash.low & (words_.size() - 1); }
  static uint64_t tag_of(const Hash& hash) { return tag_of(hash.high); }
  static uint64_t tag_of(uint64_t word) { return word & ~kUntil; }
  static bool is_believed(uint64_t word, Instant now) {
    const uint64_t left = (word & kUntil) - ms_of(now);
    return left > 0 && left <= kBelieved_ms;
  }
  static uint64_t ms_of(Instant when) {
    const int64_t us = to_us(when.time_since_epoch());
    return us > 0 ? static_cast<uint64_t>(us) / 1000 & kUntil : 0;
  }

  std::span<uint64_t> words_;
  std::span<uint64_t> since_;
};

}  // namespace mesh::cache
