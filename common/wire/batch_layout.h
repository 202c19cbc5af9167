// The first 8 bytes of a batch, on which encoder and decoder must agree:
//   'M' | version | codec | flags | envelopes u16 | body frames u16      (numbers big-endian)
// With kFlagTimed the last 4 bytes of the frame are the microseconds that compressing this batch took.
// Between lie the records, [varint length][Envelope][inline body] each, or with Codec::kZstd one zstd frame that holds
// them.
#pragma once

#include <cstddef>
#include <cstdint>

namespace mesh::wire {

inline constexpr size_t kBatchHeaderBytes = 8;
inline constexpr uint8_t kBatchMagic = 'M';
inline constexpr uint8_t kBatchVersion = 1;
inline constexpr size_t kCodecOffset = 2;
inline constexpr uint8_t kFlagTimed = 1;
inline constexpr size_t kTimedBytes = 4;

enum class Codec : uint8_t { kNone = 0, kZstd = 1 };

struct BatchHeader {
  Codec codec = Codec::kNone;
  bool timed = false;
  uint16_t envelopes = 0;
  uint16_t body_frames = 0;
};

}  // namespace mesh::wire
