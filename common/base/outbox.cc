#include "common/base/outbox.h"

#include <algorithm>

#include "common/base/limits.h"

namespace mesh {
namespace {

// What a peer that only shakes hands is sent.
constexpr size_t kFirstTailBytes = 512;
constexpr size_t kLargestTailBytes = 64 * limits::KiB;
// From here on a slice is referenced. An iovec costs the kernel about as much as copying this many bytes.
constexpr size_t kReferenceBytes = 8 * limits::KiB;

}  // namespace

void Outbox::reserve_tail(size_t bytes) {
  if (tail_ && empty() && tail_->references() == 1) tail_used_ = 0;
  if (tail_ && tail_->capacity() - tail_used_ >= bytes) return;
  const size_t grown = tail_ ? std::min(tail_->capacity() * 2, kLargestTailBytes) : kFirstTailBytes;
  tail_ = Block::allocate(std::max(bytes, grown));
  tail_used_ = 0;
  tail_is_last_ = false;
}

void Outbox::put(ByteView bytes) {
  if (bytes.empty()) return;
  reserve_tail(bytes.size());
  uint8_t* to = tail_->data() + tail_used_;
  std::memcpy(to, bytes.data(), bytes.size());
  if (tail_is_last_ && !empty()) {
    chunks_.back().extend(bytes.size());
  } else {
    chunks_.emplace_back(tail_, to, bytes.size());
    tail_is_last_ = true;
  }
  tail_used_ += bytes.size();
  bytes_ += bytes.size();
}

void Outbox::put(const Slice& slice) {
  if (slice.size() < kReferenceBytes) {
    put(slice.view());
    return;
  }
  chunks_.push_back(slice);
  tail_is_last_ = false;
  bytes_ += slice.size();
}

void Outbox::drop_front(size_t count) {
  MESH_CHECK(count <= bytes_);
  bytes_ -= count;
  while (count > 0) {
    Slice& chunk = chunks_[first_];
    if (count < chunk.size()) {
      chunk.drop_front(count);
      return;
    }
    count -= chunk.size();
    chunk = Slice();
    ++first_;
  }
  if (empty()) {
    chunks_.clear();
    first_ = 0;
    tail_is_last_ = false;
  } else if (first_ > 64 && first_ * 2 > chunks_.size()) {
    chunks_.erase(chunks_.begin(), chunks_.begin() + static_cast<std::ptrdiff_t>(first_));
    first_ = 0;
  }
}

void Outbox::shrink() {
  if (!empty()) return;
  chunks_ = {};
  tail_ = BlockRef();
  tail_used_ = 0;
}

}  // namespace mesh
