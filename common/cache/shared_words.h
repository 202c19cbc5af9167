// 64-bit words that several processes read and write at once.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace mesh::cache {

using Word = std::atomic_ref<uint64_t>;
static_assert(Word::is_always_lock_free);  // else it would be locked, and only within one process

inline uint64_t load(uint64_t& word) { return Word(word).load(std::memory_order_acquire); }

// Never lowers it.
inline void raise(uint64_t& word, uint64_t to) {
  uint64_t was = Word(word).load();
  while (was < to && !Word(word).compare_exchange_weak(was, to)) {
  }
}

// Copies whole words while somebody may be writing them: what comes may be a mixture of old and new, but no load is
// moved behind a later one and no store before an earlier one, so what is looked at before and after tells (Boehm: "Can
// seqlocks get along with programming language memory models?", MSPC 2012; acquire loads instead of his fence, which
// cost the same on x86 and which thread sanitizers understand).
inline void copy_out(uint64_t* from, uint8_t* to, size_t words) {
  for (size_t i = 0; i < words; ++i) {
    const uint64_t word = Word(from[i]).load(std::memory_order_acquire);
    std::memcpy(to + 8 * i, &word, 8);
  }
}
// Any number of bytes; the rest of the last word becomes 0.
inline void copy_in(const uint8_t* from, size_t bytes, uint64_t* to) {
  for (size_t at = 0; at < bytes; at += 8) {
    uint64_t word = 0;
    std::memcpy(&word, from + at, bytes - at < 8 ? bytes - at : 8);
    Word(to[at / 8]).store(word, std::memory_order_release);
  }
}

}  // namespace mesh::cache
