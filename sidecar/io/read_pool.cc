#include "sidecar/io/read_pool.h"

#include "common/base/limits.h"

namespace mesh::io {

std::span<uint8_t> ReadPool::target() {
  if (block_ && block_->references() == 1) used_ = 0;
  if (!block_ || block_->capacity() - used_ < limits::read_block_bytes / 2) {
    block_ = Block::allocate(limits::read_block_bytes);
    used_ = 0;
  }
  return {block_->data() + used_, block_->capacity() - used_};
}

Slice ReadPool::commit(size_t count) {
  const uint8_t* data = block_->data() + used_;
  used_ += count;
  return Slice(block_, data, count);
}

}  // namespace mesh::io
