#include "common/base/check.h"
#include "common/wire/batch.h"
#include "common/wire/batch_layout.h"
#include "common/wire/envelope_codec.h"

namespace mesh::wire {
namespace {

const Fault* decode_header(ByteView frame, BatchHeader& header) {
  if (frame.size() < kBatchHeaderBytes || frame[0] != kBatchMagic) return &fault::kBatchHeader;
  if (frame[1] != kBatchVersion) return &fault::kBatchVersion;
  if (frame[2] > static_cast<uint8_t>(Codec::kZstd)) return &fault::kBatchCodec;
  if ((frame[3] & ~kFlagTimed) != 0) return &fault::kBatchFlags;
  header.timed = (frame[3] & kFlagTimed) != 0;
  if (header.timed && frame.size() < kBatchHeaderBytes + kTimedBytes) return &fault::kBatchHeader;
  header.codec = static_cast<Codec>(frame[2]);
  header.envelopes = static_cast<uint16_t>(frame[4] << 8 | frame[5]);
  header.body_frames = static_cast<uint16_t>(frame[6] << 8 | frame[7]);
  if (header.envelopes == 0 || header.envelopes > limits::batch_envelopes_max) return &fault::kBatchCount;
  return nullptr;
}

}  // namespace

struct BatchDecoder::State {
  BatchHeader header;
  std::vector<Slice> body_frames;
  Slice records;                 // uncompressed
  size_t offset = 0;             // of the next record
  size_t envelopes = 0;          // read so far
  size_t bodies = 0;             // body frames used so far
  uint64_t own_frame_bytes = 0;  // uncompressed, of the body frames used so far
  BatchShape shape;
  bool is_open = false;
  DecodedEnvelope decoded;

  void close();
  const Fault* read_envelope();
  const Fault* take_inline_body();
  Result<void> take_own_frame_body();
};

// Lets go of the frames: a read buffer may wait for their blocks.
void BatchDecoder::State::close() {
  is_open = false;
  body_frames.clear();
  records = Slice();
  decoded.envelope.body = Slice();
}

const Fault* BatchDecoder::State::read_envelope() {
  FieldReader reader(records.view().subspan(offset));
  uint64_t size = 0;
  if (!reader.varint(size)) return &fault::kEnvelopeTruncated;
  if (size > limits::envelope_bytes) return &fault::kEnvelopeTooLarge;
  if (size > reader.remaining()) return &fault::kEnvelopeTruncated;
  const ByteView bytes(reader.position(), static_cast<size_t>(size));
  offset = static_cast<size_t>(reader.position() - records.data()) + bytes.size();
  if (const Fault* broken = decode_envelope(bytes, decoded)) return broken;

  // Several envelopes share the bound of a batch; one alone may have a body as large as any message.
  if (decoded.body_own_frame) own_frame_bytes += decoded.body_size;
  const bool is_alone = header.envelopes == 1;
  if (!is_alone && records.size() + own_frame_bytes > limits::batch_bytes) return &fault::kBatchTooLarge;
  return nullptr;
}

const Fault* BatchDecoder::State::take_inline_body() {
  const size_t size = static_cast<size_t>(decoded.body_size);
  if (size == 0) return nullptr;
  if (size > records.size() - offset) return &fault::kBodyMissing;
  decoded.envelope.body = records.part(offset, size);
  offset += size;
  return nullptr;
}

Result<void> BatchDecoder::State::take_own_frame_body() {
  if (bodies == body_frames.size()) return fail(fault::kBodyMissing);
  Slice frame = std::move(body_frames[bodies++]);
  if (decoded.body_zstd) {
    Result<Slice> plain = decompress(frame.view(), static_cast<size_t>(decoded.body_size));
    if (!plain) return Unexpected(std::move(plain.error()));
    shape.is_zstd = true;
    shape.plain_bytes += plain->size() - frame.size();
    frame = std::move(*plain);
  }
  if (frame.size() != decoded.body_size) return fail(fault::kBodySize);
  decoded.envelope.body = std::move(frame);
  return {};
}

BatchDecoder::BatchDecoder() : state_(std::make_unique<State>()) {}
BatchDecoder::~BatchDecoder() = default;
BatchDecoder::BatchDecoder(BatchDecoder&&) noexcept = default;
BatchDecoder& BatchDecoder::operator=(BatchDecoder&&) noexcept = default;

bool BatchDecoder::may_inflate(std::span<const Slice> frames) {
  if (frames.size() > 1) return true;
  return !frames.empty() && frames[0].size() > kCodecOffset &&
         frames[0].view()[kCodecOffset] != static_cast<uint8_t>(Codec::kNone);
}

Result<void> BatchDecoder::begin(std::span<const Slice> frames) {
  State& state = *state_;
  state.close();
  if (frames.empty()) return fail(fault::kBatchHeader);
  const Slice& first = frames.front();
  if (const Fault* broken = decode_header(first.view(), state.header)) return fail(*broken);
  if (frames.size() - 1 != state.header.body_frames) return fail(fault::kBatchFrames);
  if (frames.size() - 1 > limits::batch_body_frames_max) return fail(fault::kBatchFrames);

  state.shape = {.envelopes = state.header.envelopes};
  for (const Slice& frame : frames) state.shape.wire_bytes += frame.size();
  state.shape.plain_bytes = state.shape.wire_bytes;
  const size_t end = first.size() - (state.header.timed ? kTimedBytes : 0);
  if (state.header.timed) {
    for (size_t i = 0; i < kTimedBytes; ++i)
      state.shape.sealing_us = state.shape.sealing_us << 8 | first.view()[end + i];
  }
  state.records = first.part(kBatchHeaderBytes, end - kBatchHeaderBytes);
  if (state.header.codec == Codec::kZstd) {
    Result<Slice> plain = decompress(state.records.view(), limits::batch_bytes);
    if (!plain) return Unexpected(std::move(plain.error()));
    state.shape.is_zstd = true;
    state.shape.plain_bytes += plain->size() - state.records.size();
    state.records = std::move(*plain);
  }
  if (state.records.size() > limits::batch_bytes) return fail(fault::kBatchTooLarge);
  state.body_frames.assign(frames.begin() + 1, frames.end());
  state.offset = 0;
  state.envelopes = 0;
  state.bodies = 0;
  state.own_frame_bytes = 0;
  state.is_open = true;
  return {};
}

const BatchShape& BatchDecoder::shape() const { return state_->shape; }

Result<const Envelope*> BatchDecoder::next() {
  State& state = *state_;
  if (!state.is_open) return nullptr;
  if (state.envelopes == state.header.envelopes) {
    const bool is_used_up = state.offset == state.records.size() && state.bodies == state.body_frames.size();
    state.close();
    if (!is_used_up) return fail(fault::kBatchTrailing);
    return nullptr;
  }
  const Fault* broken = state.read_envelope();
  if (broken == nullptr && !state.decoded.body_own_frame) broken = state.take_inline_body();
  if (broken != nullptr) {
    state.close();
    return fail(*broken);
  }
  if (state.decoded.body_own_frame) {
    if (Result<void> taken = state.take_own_frame_body(); !taken) {
      state.close();
      return Unexpected(std::move(taken.error()));
    }
  }
  ++state.envelopes;
  return &state.decoded.envelope;
}

}  // namespace mesh::wire
