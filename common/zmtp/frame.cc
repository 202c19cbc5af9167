#include "common/zmtp/frame.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <string>

#include "common/base/limits.h"

namespace mesh::zmtp {
namespace {

struct Header {
  uint8_t bytes[kLongHeaderBytes];
  size_t size;
};

// To the order of the wire, and back.
uint64_t big_endian(uint64_t number) {
  static_assert(std::endian::native == std::endian::little);
  return __builtin_bswap64(number);
}

Header header_of(uint8_t flags, size_t body_bytes) {
  Header header{};
  if (body_bytes <= kShortBodyMax) {
    header.bytes[0] = flags;
    header.bytes[1] = static_cast<uint8_t>(body_bytes);
    header.size = 2;
    return header;
  }
  header.bytes[0] = flags | kFlagLong;
  const uint64_t size = big_endian(body_bytes);
  std::memcpy(header.bytes + 1, &size, sizeof size);
  header.size = kLongHeaderBytes;
  return header;
}

}  // namespace

void put_frame(Outbox& out, uint8_t flags, ByteView body) {
  const Header header = header_of(flags, body.size());
  out.put(ByteView(header.bytes, header.size));
  out.put(body);
}

void put_frame(Outbox& out, uint8_t flags, const Slice& body) {
  const Header header = header_of(flags, body.size());
  out.put(ByteView(header.bytes, header.size));
  out.put(body);
}

void put_message(Outbox& out, std::span<const Slice> frames) {
  for (size_t i = 0; i < frames.size(); ++i) put_frame(out, i + 1 < frames.size() ? kFlagMore : 0, frames[i]);
}

void FrameDecoder::feed(Slice bytes) {
  MESH_CHECK(input_.empty());
  input_ = std::move(bytes);
}

// True once the whole header is in header_.
bool FrameDecoder::read_header() {
  // Nearly always it is there in one piece.
  if (header_have_ == 0 && input_.size() >= kLongHeaderBytes) {
    std::memcpy(header_, input_.data(), kLongHeaderBytes);
    header_have_ = (header_[0] & kFlagLong) != 0 ? kLongHeaderBytes : 2;
    input_.drop_front(header_have_);
    return true;
  }
  while (!input_.empty()) {
    const size_t need = header_have_ == 0 ? 2 : ((header_[0] & kFlagLong) != 0 ? kLongHeaderBytes : 2);
    if (header_have_ >= need) return true;
    const size_t take = std::min(need - header_have_, input_.size());
    std::memcpy(header_ + header_have_, input_.data(), take);
    header_have_ += take;
    input_.drop_front(take);
  }
  return header_have_ >= 2 && header_have_ == ((header_[0] & kFlagLong) != 0 ? kLongHeaderBytes : 2);
}

Result<void> FrameDecoder::judge_header(const Limits& limits) {
  flags_ = header_[0];
  if ((flags_ & ~kFlagsKnown) != 0) return fail(Code::kInvalid, "frame_flags", "a frame has reserved flags set");
  const bool command = (flags_ & kFlagCommand) != 0;
  if (command && (flags_ & kFlagMore) != 0) {
    return fail(Code::kInvalid, "frame_flags", "a command frame says that more follows");
  }
  size_ = header_[1];
  if ((flags_ & kFlagLong) != 0) {
    std::memcpy(&size_, header_ + 1, sizeof size_);
    size_ = big_endian(size_);
  }
  const size_t limit = command ? limits.command_bytes : limits.data_bytes;
  if (size_ > limit) {
    return fail(Code::kTooLarge, command ? "command_bytes" : "message_bytes",
                "a frame of " + std::to_string(size_) + " bytes is over the limit of " + std::to_string(limit));
  }
  dropping_ = !command && size_ > limits.keep_bytes;
  body_have_ = 0;
  return {};
}

Result<std::optional<Frame>> FrameDecoder::next(const Limits& limits) {
  if (!in_body_) {
    if (!read_header()) return std::nullopt;
    if (auto judged = judge_header(limits); !judged) return Unexpected(judged.error());
    header_have_ = 0;
    in_body_ = true;
  }
  Frame frame;
  frame.flags = flags_;
  if (dropping_) {
    const size_t take = std::min<size_t>(size_ - body_have_, input_.size());
    body_have_ += take;
    input_.drop_front(take);
    if (body_have_ < size_) return std::nullopt;
    frame.dropped_bytes = size_;
  } else if (size_ == 0) {
    // An empty frame holds no block.
  } else if (!body_ && input_.size() >= size_) {
    frame.body = input_.part(0, size_);
    input_.drop_front(size_);
  } else {
    if (!body_) {
      body_ = Block::allocate(size_);
    }
    const size_t take = std::min<size_t>(size_ - body_have_, input_.size());
    if (take > 0) std::memcpy(body_->data() + body_have_, input_.data(), take);
    body_have_ += take;
    input_.drop_front(take);
    if (body_have_ < size_) return std::nullopt;
    const uint8_t* data = body_->data();
    frame.body = Slice(std::move(body_), data, size_);
    body_ = BlockRef();
  }
  if (input_.empty()) input_ = Slice();  // let go of the block
  in_body_ = false;
  return frame;
}

std::span<uint8_t> FrameDecoder::read_target() {
  if (!body_ || size_ - body_have_ < limits::direct_read_bytes) return {};
  return {body_->data() + body_have_, size_ - body_have_};
}

void FrameDecoder::commit(size_t count) {
  MESH_CHECK(body_ && count <= size_ - body_have_);
  body_have_ += count;
}

}  // namespace mesh::zmtp
