// ZMTP framing (RFC 37/ZMTP, "Framing"): flags octet, size octet or eight of them, body.
//
// What reader and writer must agree on stands at the top; frame_decoder reads, put_frame writes.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "common/base/outbox.h"
#include "common/base/result.h"
#include "common/base/slice.h"

namespace mesh::zmtp {

inline constexpr uint8_t kFlagMore = 0x01;
inline constexpr uint8_t kFlagLong = 0x02;
inline constexpr uint8_t kFlagCommand = 0x04;
inline constexpr uint8_t kFlagsKnown = kFlagMore | kFlagLong | kFlagCommand;
inline constexpr size_t kShortBodyMax = 255;
inline constexpr size_t kLongHeaderBytes = 9;

struct Frame {
  uint8_t flags = 0;
  Slice body;
  size_t dropped_bytes = 0;  // of a body that was read over, being too large to keep

  bool more() const { return (flags & kFlagMore) != 0; }
  bool command() const { return (flags & kFlagCommand) != 0; }
};

// Appends one frame. The slice form keeps a large body by reference.
void put_frame(Outbox& out, uint8_t flags, ByteView body);
void put_frame(Outbox& out, uint8_t flags, const Slice& body);
// Appends all frames of one message, MORE on all but the last.
void put_message(Outbox& out, std::span<const Slice> frames);

// Cuts a stream of bytes into frames, whatever the splits. A frame that lies whole in what was fed is a window on it;
// one that does not is gathered in a block of its own.
class FrameDecoder {
 public:
  struct Limits {
    size_t keep_bytes;     // a larger data frame is read over and given without its body
    size_t data_bytes;     // a larger data frame ends the stream
    size_t command_bytes;  // so does a larger command
  };

  // More bytes. What was fed before must have been used up: next() returned nothing.
  void feed(Slice bytes);
  // Bytes fed and not yet used.
  size_t unread() const { return input_.size(); }

  // The next whole frame; nothing if more bytes are needed. TOO_LARGE or INVALID is final: the stream has lost its
  // sense. Limits are checked as soon as the header is there, before anything is allocated.
  Result<std::optional<Frame>> next(const Limits& limits);

  // Where the rest of a large frame should be read to; empty unless it is worth a read of its own. Valid until
  // commit().
  std::span<uint8_t> read_target();
  // `count` bytes were written to read_target().
  void commit(size_t count);
  // What the frame that is not whole yet says it will have; 0 if none is, or if it is read over.
  size_t declared_bytes() const { return in_body_ && !dropping_ ? size_ : 0; }
  // Memory held for a frame that is not whole yet.
  size_t gathering_bytes() const { return body_ ? body_->capacity() : 0; }
  // And how much of it is there.
  size_t gathered_bytes() const { return body_ ? body_have_ : 0; }

 private:
  bool read_header();
  Result<void> judge_header(const Limits& limits);

  Slice input_;
  uint8_t header_[kLongHeaderBytes] = {};
  size_t header_have_ = 0;
  bool in_body_ = false;
  uint8_t flags_ = 0;
  uint64_t size_ = 0;
  bool dropping_ = false;
  BlockRef body_;
  size_t body_have_ = 0;
};

}  // namespace mesh::zmtp
