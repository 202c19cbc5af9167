// Where the loop reads to: one block that is filled from the front again as soon as nobody holds a part of it.
#pragma once

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
  BlockRef block_;
  size_t used_ = 0;
};

}  // namespace mesh::io
