// zstd per batch, where it pays.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "common/base/result.h"
#include "common/base/slice.h"
#include "common/wire/envelope.h"

namespace mesh::wire {

// Decides and compresses for one link. `auto` weighs the bytes saved x the link's time per byte against the CPU time,
// with the ratio seen lately; every so often it tries again although it would not, so that a change of traffic is
// noticed.
class Compressor {
 public:
  // `link_ns_per_byte`: time one byte takes on the link (8 for 1 Gbit/s); loopback links use kNever or 0.
  Compressor(CompressionMode mode, double link_ns_per_byte);
  ~Compressor();
  Compressor(Compressor&&) noexcept;
  Compressor& operator=(Compressor&&) noexcept;

  // The compressed bytes, a zstd frame with its content size declared, which decompress() accepts; nothing if plain is
  // better. Runs on the calling thread, for at most ~10 ms: larger inputs stay plain.
  std::optional<Slice> compress(ByteView plain);
  // How often there was work to do, whether it paid or not.
  uint64_t tried() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Inverse. INVALID if the content size is not declared or the data is broken or the window too large; TOO_LARGE if the
// declared size is above min(limit_bytes, inflate_ratio_max x input + inflate_slack_bytes). Nothing is allocated before
// that check.
Result<Slice> decompress(ByteView compressed, size_t limit_bytes);

}  // namespace mesh::wire
