// Reads a fuzzer's input as a recipe: a list of choices and texts from which something well-formed is cooked, and then
// spoilt in places. So mutations reach what lies behind the first checks of a parser.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string_view>

#include "common/base/slice.h"

namespace mesh::fuzz {

class Recipe {
 public:
  Recipe(const uint8_t* data, size_t size) : rest_(data, size) {}

  bool is_used_up() const { return rest_.empty(); }
  // 0 when used up.
  uint8_t byte() {
    if (rest_.empty()) return 0;
    const uint8_t first = rest_.front();
    rest_ = rest_.subspan(1);
    return first;
  }
  // One of `count` choices, from 0 on.
  size_t choose(size_t count) { return byte() % count; }
  uint64_t number() {
    uint64_t value = 0;
    for (size_t bytes = choose(9); bytes > 0; --bytes) value = value << 8 | byte();
    return value;
  }
  // At most `max` bytes, or as many as are left; they live as long as the input.
  ByteView bytes(size_t max) {
    const size_t wanted = (size_t{byte()} << 8 | byte()) % (max + 1);
    const ByteView taken = rest_.first(std::min(wanted, rest_.size()));
    rest_ = rest_.subspan(taken.size());
    return taken;
  }
  std::string_view text(size_t max) { return as_text(bytes(max)); }
  ByteView rest() const { return rest_; }

 private:
  ByteView rest_;
};

}  // namespace mesh::fuzz
