// Where the loop reads to: one block that is filled from the front again as soon as nobody holds a part of it, and a
// few more for the time that somebody does.
#pragma once

#include <array>
#include <span>

#include "common/base/slice.h"

namespace mesh::io {

class ReadPool {
 public:
  // Room for one read, at least half a block. Valid until commit() or the next call.
  std::span<uint8_t> target();
  // The first `count` bytes of target() as a slice.
  Slice commit(size_t count);

 private:
  void change_block();

  // Large bodies under way hold a block or two; a burst beyond that gets blocks that are not kept.
  static constexpr size_t kKept = 4;
  std::array<BlockRef, kKept + 1> blocks_;
  size_t current_ = 0;
  size_t used_ = 0;
};

}  // namespace mesh::io
