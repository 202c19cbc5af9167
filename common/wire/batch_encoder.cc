#include <algorithm>
#include <utility>

#include "common/base/check.h"
#include "common/wire/batch.h"
#include "common/wire/batch_layout.h"
#include "common/wire/envelope_codec.h"

namespace mesh::wire {
namespace {

constexpr size_t kFirstBlockBytes = 4 * limits::KiB;
// A block this small is kept, however little is in it.
constexpr size_t kKeptBlockBytes = 16 * limits::KiB;
// Each further batch that is smaller forgets 1/8 of what the block had to hold.
constexpr size_t kForgetShift = 3;

}  // namespace

struct BatchEncoder::State {
  struct OwnFrameBody {
    Slice bytes;
    size_t zstd_flag_offset = 0;  // in the block: the value of body_zstd
  };

  BlockRef block;      // frame 0
  size_t used = 0;     // bytes of it, header included; 0 before the first envelope
  size_t typical = 0;  // what recent batches used, decaying
  size_t envelopes = 0;
  size_t own_frame_bytes = 0;
  bool is_sensitive = false;  // some of it: none is compressed
  std::vector<OwnFrameBody> own_frame_bodies;
  std::vector<Slice> frames;  // of the batch sealed last
  BatchShape shape;           // of the same
  uint8_t* timed_at = nullptr;

  void start();
  void reserve(size_t bytes);
  void put_header(uint8_t* to, Codec codec, bool timed) const;
  void seal_own_frame_bodies(Compressor* compressor);
  Slice seal_records(Compressor* compressor, uint64_t tried_before);
};

// Takes the block of the last batch again if nobody holds it any more, which is the steady state: its bytes were
// written at the end of their turn.
void BatchEncoder::State::start() {
  frames.clear();
  const bool is_free = block && block->references() == 1;
  const bool is_oversized = is_free && block->capacity() > std::max(kKeptBlockBytes, 4 * typical);
  if (!is_free || is_oversized) {
    block = BlockRef();
    block = Block::allocate(std::max(kFirstBlockBytes, typical + typical / 4));
  }
  used = kBatchHeaderBytes;
}

void BatchEncoder::State::reserve(size_t bytes) {
  if (block->capacity() - used >= bytes) return;
  BlockRef larger = Block::allocate(std::max(2 * block->capacity(), used + bytes));
  std::memcpy(larger->data(), block->data(), used);
  block = std::move(larger);
}

void BatchEncoder::State::put_header(uint8_t* to, Codec codec, bool timed) const {
  const uint8_t header[kBatchHeaderBytes] = {
      kBatchMagic,
      kBatchVersion,
      static_cast<uint8_t>(codec),
      timed ? kFlagTimed : uint8_t{0},
      static_cast<uint8_t>(envelopes >> 8),
      static_cast<uint8_t>(envelopes),
      static_cast<uint8_t>(own_frame_bodies.size() >> 8),
      static_cast<uint8_t>(own_frame_bodies.size()),
  };
  std::memcpy(to, header, sizeof header);
}

void BatchEncoder::State::seal_own_frame_bodies(Compressor* compressor) {
  for (OwnFrameBody& body : own_frame_bodies) {
    std::optional<Slice> compressed;
    if (compressor != nullptr) compressed = compressor->compress(body.bytes.view());
    if (compressed) block->data()[body.zstd_flag_offset] = 1, shape.is_zstd = true;
    frames.push_back(compressed ? std::move(*compressed) : std::move(body.bytes));
  }
}

Slice BatchEncoder::State::seal_records(Compressor* compressor, uint64_t tried_before) {
  std::optional<Slice> compressed;
  if (compressor != nullptr) {
    compressed = compressor->compress(ByteView(block->data() + kBatchHeaderBytes, used - kBatchHeaderBytes));
  }
  const bool timed = compressor != nullptr && compressor->tried() != tried_before;
  timed_at = nullptr;
  if (!timed) {
    put_header(block->data(), Codec::kNone, false);
    return Slice(block, block->data(), used);
  }
  size_t size = used;
  BlockRef sealed;
  if (compressed) {
    shape.is_zstd = true;
    size = kBatchHeaderBytes + compressed->size();
    sealed = Block::allocate(size + kTimedBytes);
    std::memcpy(sealed->data() + kBatchHeaderBytes, compressed->data(), compressed->size());
  } else {
    reserve(kTimedBytes);
    sealed = block;
  }
  uint8_t* const data = sealed->data();
  put_header(data, compressed ? Codec::kZstd : Codec::kNone, true);
  timed_at = data + size;
  std::memset(timed_at, 0, kTimedBytes);
  return Slice(std::move(sealed), data, size + kTimedBytes);
}

BatchEncoder::BatchEncoder() : state_(std::make_unique<State>()) {}
BatchEncoder::~BatchEncoder() = default;
BatchEncoder::BatchEncoder(BatchEncoder&&) noexcept = default;
BatchEncoder& BatchEncoder::operator=(BatchEncoder&&) noexcept = default;

bool BatchEncoder::empty() const { return state_->envelopes == 0; }
size_t BatchEncoder::envelopes() const { return state_->envelopes; }
size_t BatchEncoder::bytes() const { return state_->used + state_->own_frame_bytes; }

bool BatchEncoder::fits(size_t body_bytes) const {
  const State& state = *state_;
  if (state.envelopes == 0) return true;
  if (state.envelopes >= limits::batch_envelopes_max) return false;
  if (body_bytes > limits::inline_body_bytes && state.own_frame_bodies.size() >= limits::batch_body_frames_max)
    return false;
  // Room for any envelope: what its names and its error will need is not known here.
  return bytes() + limits::envelope_bytes + body_bytes <= limits::batch_bytes;
}

void BatchEncoder::add(const Envelope& envelope) {
  State& state = *state_;
  const size_t body_bytes = envelope.body.size();
  MESH_CHECK(fits(body_bytes) && body_bytes <= limits::message_bytes);
  const bool own_frame = body_bytes > limits::inline_body_bytes;
  if (state.envelopes == 0) state.start();
  if (envelope.delivery != nullptr && envelope.delivery->is_sensitive) state.is_sensitive = true;
  state.reserve(kVarintBytesMax + encoded_bytes_bound(envelope) + (own_frame ? 0 : body_bytes));

  uint8_t* const begin = state.block->data();
  FieldWriter writer(begin + state.used);
  writer.with_length([&] { encode_envelope(envelope, own_frame, writer); });
  if (own_frame) {
    // encode_envelope wrote the flag last.
    const size_t flag_offset = static_cast<size_t>(writer.position() - begin) - 1;
    state.own_frame_bodies.push_back({envelope.body, flag_offset});
    state.own_frame_bytes += body_bytes;
  } else {
    writer.raw(envelope.body.view());
  }
  state.used = static_cast<size_t>(writer.position() - begin);
  ++state.envelopes;
}

std::span<const Slice> BatchEncoder::seal(Compressor* compressor) {
  State& state = *state_;
  MESH_CHECK(!empty());
  if (std::exchange(state.is_sensitive, false)) compressor = nullptr;
  const uint64_t tried_before = compressor != nullptr ? compressor->tried() : 0;
  state.shape = {.envelopes = static_cast<uint32_t>(state.envelopes), .plain_bytes = bytes()};
  state.frames.emplace_back();  // frame 0 is written last, when the flags of the bodies are known
  state.seal_own_frame_bodies(compressor);
  state.frames.front() = state.seal_records(compressor, tried_before);
  for (const Slice& frame : state.frames) state.shape.wire_bytes += frame.size();

  state.typical = std::max(state.used, state.typical - (state.typical >> kForgetShift));
  state.used = 0;
  state.envelopes = 0;
  state.own_frame_bytes = 0;
  state.own_frame_bodies.clear();
  return state.frames;
}

const BatchShape& BatchEncoder::shape() const { return state_->shape; }

bool BatchEncoder::wants_sealing_time() const { return state_->timed_at != nullptr; }

void BatchEncoder::set_sealing_time(uint32_t us) {
  MESH_CHECK(wants_sealing_time());
  state_->shape.sealing_us = us;
  for (size_t i = 0; i < kTimedBytes; ++i) state_->timed_at[i] = static_cast<uint8_t>(us >> (24 - 8 * i));
}

void BatchEncoder::shrink() {
  State& state = *state_;
  if (!empty()) return;
  state.frames = {};
  state.own_frame_bodies = {};
  state.block = BlockRef();
  state.typical = 0;
}

}  // namespace mesh::wire
