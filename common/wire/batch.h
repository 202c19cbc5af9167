// A batch: what one turn of the loop has for one link, as one ZMTP message.
//
// Frame 0 is a header of 8 bytes and then, back to back, each envelope with its small body; a body above
// limits::inline_body_bytes travels as a frame of its own, uncopied. proto/README.md has the layout and an exchange in
// hex.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "common/base/limits.h"
#include "common/base/result.h"
#include "common/base/slice.h"
#include "common/wire/compression.h"
#include "common/wire/envelope.h"

namespace mesh::wire {

// What a batch cost on its way.
struct BatchShape {
  uint32_t envelopes = 0;
  uint64_t plain_bytes = 0;  // of all frames, before compression
  uint64_t wire_bytes = 0;
  bool is_zstd = false;     // some of it
  uint32_t sealing_us = 0;  // time that compressing took
};

// Collects envelopes and gives the frames of one message.
class BatchEncoder {
 public:
  BatchEncoder();
  ~BatchEncoder();
  BatchEncoder(BatchEncoder&&) noexcept;
  BatchEncoder& operator=(BatchEncoder&&) noexcept;

  // Whether one more envelope with a body of `body_bytes` fits: bytes, envelopes and body frames are bounded.
  // An empty batch takes any single envelope.
  bool fits(size_t body_bytes) const;
  // Adds one that fits. The strings it points to are not needed after the call; a body above limits::inline_body_bytes
  // is kept by reference. Names must be at most limits::name_bytes long and parts must sum up to the body; a budget
  // above limits::budget_ms_max counts as that, and of an error's texts only a few sentences travel.
  void add(const Envelope& envelope);
  bool empty() const;
  size_t envelopes() const;
  size_t bytes() const;  // uncompressed, of all frames; 0 when empty

  // The frames to send, 1..limits::frames_per_message_max of them; the encoder is empty and reusable afterwards.
  // `compressor` may be null: then nothing is compressed, and neither is a batch with a sensitive envelope. The result
  // is valid until the next add(). Once no slice of them is kept elsewhere, the memory of frame 0 is used again for a
  // later batch.
  std::span<const Slice> seal(Compressor* compressor);
  // Of the batch sealed last.
  const BatchShape& shape() const;
  // True if the compressor had work with it: then the receiver is to be told how long it took, before the frames are
  // sent.
  bool wants_sealing_time() const;
  void set_sealing_time(uint32_t us);
  // Lets go of the frames sealed last and of all memory; for a link that has become quiet. No effect unless empty.
  void shrink();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Walks over the envelopes of one message.
class BatchDecoder {
 public:
  BatchDecoder();
  ~BatchDecoder();
  BatchDecoder(BatchDecoder&&) noexcept;
  BatchDecoder& operator=(BatchDecoder&&) noexcept;

  // Whether a look at the frames leaves it open that something is compressed.
  static bool may_inflate(std::span<const Slice> frames);
  // Begins with the frames of a message, which are kept as slices. INVALID if the header lies; TOO_LARGE if the
  // declared size is over the limit. Errors name the rule that was broken; proto/README.md lists them.
  Result<void> begin(std::span<const Slice> frames);
  // Of the batch begun last; a compressed body counts as such once its envelope was read.
  const BatchShape& shape() const;
  // The next envelope, null at the end. Strings, `hello` and `error` are valid until the next call of next() or
  // begin(); the body keeps its block alive, which for a small one is that of the whole batch. INVALID or TOO_LARGE
  // ends the batch: the connection that sent it should be closed. After the end no frame is held any more.
  Result<const Envelope*> next();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace mesh::wire
