#include "sidecar/io/read_pool.h"

#include "common/base/limits.h"

namespace mesh::io {

void ReadPool::change_block() {
  used_ = 0;
  for (current_ = 0; current_ < kKept; ++current_) {
    if (!blocks_[current_]) blocks_[current_] = Block::allocate(limits::read_block_bytes);
    if (blocks_[current_]->references() == 1) return;
  }
  blocks_[kKept] = Block::allocate(limits::read_block_bytes);
}

std::span<uint8_t> ReadPool::target() {
  BlockRef& block = blocks_[current_];
  if (block && block->references() == 1) used_ = 0;
  if (!block || block->capacity() - used_ < limits::read_block_bytes / 2) change_block();
  Block& into = *blocks_[current_];
  return {into.data() + used_, into.capacity() - used_};
}

Slice ReadPool::commit(size_t count) {
  const BlockRef& block = blocks_[current_];
  const uint8_t* data = block->data() + used_;
  used_ += count;
  return Slice(block, data, count);
}

}  // namespace mesh::io
