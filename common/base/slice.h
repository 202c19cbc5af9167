// Bytes that are shared, not copied.
//
// A Block is one allocation with a reference count; a Slice is a window on it that keeps it alive. What was read from
// a socket stays in the block it was read into, and the same bytes are later handed to writev: the picture is a
// newspaper clipping that keeps the whole page from being thrown away. So a small Slice that outlives its turn should
// be `compact`ed: otherwise a 1 KiB clipping holds a 256 KiB page.
//
// Reference counts are not atomic: a Slice stays on the thread of its loop.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <utility>

#include "common/base/check.h"

namespace mesh {

using ByteView = std::span<const uint8_t>;

inline ByteView as_bytes(std::string_view text) { return {reinterpret_cast<const uint8_t*>(text.data()), text.size()}; }
inline std::string_view as_text(ByteView bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

class BlockRef;

class Block {
 public:
  // A block with `capacity` writable bytes, uninitialised. Pages of a large block cost nothing until written.
  static BlockRef allocate(size_t capacity);

  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;

  uint8_t* data() { return reinterpret_cast<uint8_t*>(this + 1); }
  const uint8_t* data() const { return reinterpret_cast<const uint8_t*>(this + 1); }
  size_t capacity() const { return capacity_; }
  uint32_t references() const { return references_; }

 private:
  friend class BlockRef;
  explicit Block(size_t capacity) : capacity_(capacity) {}
  static void free(Block* block);

  size_t capacity_;
  uint32_t references_ = 0;
};

// Keeps a block alive.
class BlockRef {
 public:
  BlockRef() = default;
  explicit BlockRef(Block* block) : block_(block) {
    if (block_ != nullptr) ++block_->references_;
  }
  BlockRef(const BlockRef& other) : BlockRef(other.block_) {}
  BlockRef(BlockRef&& other) noexcept : block_(std::exchange(other.block_, nullptr)) {}
  BlockRef& operator=(BlockRef other) noexcept {
    std::swap(block_, other.block_);
    return *this;
  }
  ~BlockRef() {
    if (block_ != nullptr && --block_->references_ == 0) Block::free(block_);
  }

  Block* operator->() const { return block_; }
  Block& operator*() const { return *block_; }
  explicit operator bool() const { return block_ != nullptr; }

 private:
  Block* block_ = nullptr;
};

class Slice {
 public:
  Slice() = default;
  Slice(BlockRef block, const uint8_t* data, size_t size) : block_(std::move(block)), data_(data), size_(size) {}

  // A copy of `bytes` in a block of its own size.
  static Slice copy_of(ByteView bytes);
  static Slice copy_of(std::string_view text) { return copy_of(as_bytes(text)); }

  const uint8_t* data() const { return data_; }
  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  ByteView view() const { return {data_, size_}; }
  std::string_view text() const { return as_text(view()); }

  // The part [offset, offset + count); shares the block. The range must lie within this slice.
  Slice part(size_t offset, size_t count) const {
    MESH_CHECK(offset <= size_ && count <= size_ - offset);
    return Slice(block_, data_ + offset, count);
  }
  void drop_front(size_t count) {
    MESH_CHECK(count <= size_);
    data_ += count;
    size_ -= count;
  }
  // Makes it longer. The block must hold that many more bytes behind it, and they must be written.
  void extend(size_t count) { size_ += count; }
  // Memory that this slice keeps from being freed.
  size_t held_bytes() const { return block_ ? block_->capacity() : 0; }
  // Itself, or a copy of its own size where it would hold more than twice what it needs.
  Slice compact() const;

 private:
  BlockRef block_;
  const uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace mesh
