// What all sidecars of a host know together about one other sidecar.
#pragma once

#include <cstdint>
#include <optional>

#include "common/base/instant.h"
#include "common/cache/shared_layout.h"
#include "common/cache/shared_words.h"

namespace mesh::cache {

// A handle on words that outlive it.
class Witness {
 public:
  explicit Witness(WitnessWords& words) : words_(&words) {}

  // Up to which position of that sidecar's purges this host has noted all. Positions are less than 2^64 - 1.
  std::optional<uint64_t> known() const { return to_position(load(words_->known)); }
  void set_known(std::optional<uint64_t> position) { Word(words_->known).store(to_word(position)); }
  // False, and `expected` becomes what is there, if that is something else.
  bool exchange_known(std::optional<uint64_t>& expected, std::optional<uint64_t> position) {
    return exchange(words_->known, expected, position);
  }
  // Up to which position somebody has begun to note: as long as it is not known, some of it may be noted already.
  std::optional<uint64_t> noting() const { return to_position(load(words_->noting)); }
  bool exchange_noting(std::optional<uint64_t>& expected, std::optional<uint64_t> position) {
    return exchange(words_->noting, expected, position);
  }

  // A call that makes replies wrong is under way to that sidecar, until then at most. Who is killed never ends it.
  void begin_writing(Instant until) {
    const int64_t until_us = to_us(until.time_since_epoch());
    raise(words_->writing_until, until_us > 0 ? static_cast<uint64_t>(until_us) + 1 : 0);
    Word(words_->writing).fetch_add(1);
  }
  void end_writing() { Word(words_->writing).fetch_sub(1); }
  // All calls of processes before count as ended, whatever number stands there.
  void forget_writing() { Word(words_->writing).store(0); }
  // Calls that were begun and not ended, also by those who were killed.
  uint64_t writing() const { return load(words_->writing); }
  // Whether any of them may still be under way.
  bool is_writing(Instant now) const {
    const int64_t now_us = to_us(now.time_since_epoch());
    return writing() > 0 && now_us < static_cast<int64_t>(load(words_->writing_until));
  }

 private:
  static bool exchange(uint64_t& word, std::optional<uint64_t>& expected, std::optional<uint64_t> position) {
    uint64_t was = to_word(expected);
    const bool is_done = Word(word).compare_exchange_strong(was, to_word(position));
    if (!is_done) expected = to_position(was);
    return is_done;
  }
  static uint64_t to_word(std::optional<uint64_t> position) { return position ? *position + 1 : 0; }
  static std::optional<uint64_t> to_position(uint64_t word) {
    return word == 0 ? std::nullopt : std::optional(word - 1);
  }

  WitnessWords* words_;
};

}  // namespace mesh::cache
