#include "common/base/slice.h"

#include <new>

namespace mesh {

BlockRef Block::allocate(size_t capacity) {
  void* memory = ::operator new(sizeof(Block) + capacity);
  return BlockRef(new (memory) Block(capacity));
}

void Block::free(Block* block) {
  block->~Block();
  ::operator delete(block);
}

Slice Slice::copy_of(ByteView bytes) {
  if (bytes.empty()) return {};
  BlockRef block = Block::allocate(bytes.size());
  std::memcpy(block->data(), bytes.data(), bytes.size());
  const uint8_t* data = block->data();
  return Slice(std::move(block), data, bytes.size());
}

Slice Slice::compact() const {
  constexpr size_t kSlackBytes = 64;  // below this the copy costs more than it frees
  if (held_bytes() <= 2 * size_ + kSlackBytes) return *this;
  return copy_of(view());
}

}  // namespace mesh
