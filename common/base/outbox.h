// Bytes on their way out of one stream, as a list of windows for writev.
//
// Small pieces are copied behind each other into one tail block; large ones are kept by reference. So a turn that
// produced fifty small frames and one large body leaves as three iovecs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "common/base/slice.h"

namespace mesh {

class Outbox {
 public:
  // Copies.
  void put(ByteView bytes);
  // Keeps the slice where copying would cost more than another iovec; copies below that.
  void put(const Slice& slice);

  bool empty() const { return first_ == chunks_.size(); }
  size_t bytes() const { return bytes_; }
  // What is to be sent, in order. Valid until the next put() or drop_front().
  std::span<const Slice> chunks() const { return {chunks_.data() + first_, chunks_.size() - first_}; }
  // Forgets the first `count` bytes; they were accepted. `count` must not exceed bytes().
  void drop_front(size_t count);
  // Gives back memory beyond what a quiet stream needs.
  void shrink();

 private:
  void reserve_tail(size_t bytes);

  std::vector<Slice> chunks_;
  size_t first_ = 0;
  size_t bytes_ = 0;
  BlockRef tail_;
  size_t tail_used_ = 0;
  bool tail_is_last_ = false;  // the last chunk ends at tail_used_, so it can grow
};

}  // namespace mesh
