#include "common/wire/compression.h"

#include <zstd.h>

#include <algorithm>

#include "common/base/check.h"
#include "common/base/limits.h"
#include "common/wire/fault.h"

namespace mesh::wire {
namespace {

constexpr int kLevel = 1;
// CPU time that level 1 takes at both ends together. tests/bench/wire_bench.cc measured 1.3 (base64) to 2.3 (JSON) on a
// 2.6 GHz core with nothing else to do; under load the caches are colder.
constexpr double kCpuNsPerByte = 3.0;
// And what it takes for however few bytes: tables are cleared, blocks are allocated.
constexpr double kCpuNsPerCall = 4000.0;
// All this runs on the loop's thread: what is larger would hold up everybody for more than ~10 ms.
constexpr size_t kCompressBytesMax = 4 * limits::MiB;
// The newest ratio counts for 1/8.
constexpr double kRatioWeight = 0.125;
// While it does not pay, one of so many is compressed nevertheless, to see whether it still does not.
constexpr uint32_t kSampleInterval = 64;
// Saving less than 1/16 is not worth a decompression.
constexpr size_t kMustSaveShift = 4;

// One context per thread: it keeps nothing from call to call but its tables, which are too large to have per link.
struct FreeContext {
  void operator()(ZSTD_CCtx* context) const { ZSTD_freeCCtx(context); }
  void operator()(ZSTD_DCtx* context) const { ZSTD_freeDCtx(context); }
};

ZSTD_CCtx* compression_context() {
  thread_local const std::unique_ptr<ZSTD_CCtx, FreeContext> context(ZSTD_createCCtx());
  MESH_CHECK(context != nullptr);
  return context.get();
}

ZSTD_DCtx* decompression_context() {
  thread_local const std::unique_ptr<ZSTD_DCtx, FreeContext> context(ZSTD_createDCtx());
  MESH_CHECK(context != nullptr);
  return context.get();
}

// What so many compressed bytes may become.
size_t inflated_bytes_max(size_t compressed_bytes) {
  return limits::inflate_ratio_max * compressed_bytes + limits::inflate_slack_bytes;
}

// RFC 8878: magic number, then a descriptor whose bit 5 says "single segment", where the window is the content;
// otherwise the next byte is the window's exponent and mantissa.
bool has_bounded_window(ByteView frame, uint64_t content_bytes) {
  constexpr uint8_t kSingleSegment = 0x20;
  constexpr size_t kDescriptorOffset = 4;
  constexpr uint64_t window_max = uint64_t{1} << limits::zstd_window_log_max;
  if (frame.size() < kDescriptorOffset + 2) return false;
  if ((frame[kDescriptorOffset] & kSingleSegment) != 0) return content_bytes <= window_max;
  const uint8_t window = frame[kDescriptorOffset + 1];
  const uint64_t base = uint64_t{1} << (10 + (window >> 3));
  return base + base / 8 * (window & 7) <= window_max;
}

bool is_zstd_frame(ByteView bytes) {
  constexpr uint8_t magic[] = {0x28, 0xB5, 0x2F, 0xFD};
  return bytes.size() >= sizeof magic && std::equal(std::begin(magic), std::end(magic), bytes.begin());
}

constexpr Fault kZstdBroken{Code::kInvalid, "zstd_broken", "compressed bytes are not one whole zstd frame"};
constexpr Fault kZstdSize{Code::kInvalid, "zstd_size_undeclared", "a zstd frame does not declare its content size"};
constexpr Fault kZstdWindow{Code::kInvalid, "zstd_window", "a zstd frame has a larger window than the limit"};
constexpr Fault kZstdTooLarge{Code::kTooLarge, "zstd_too_large", "a zstd frame declares more bytes than the limit"};

}  // namespace

struct Compressor::State {
  CompressionMode mode = CompressionMode::kNever;
  double link_ns_per_byte = 0;
  double ratio = 0;  // compressed / plain, lately; the first one is tried
  bool has_ratio = false;
  uint32_t declined = 0;  // in a row
  uint64_t tried = 0;

  bool pays(size_t bytes) const;
  bool shall_try(size_t bytes);
  void learn(double new_ratio);
};

bool Compressor::State::pays(size_t bytes) const {
  const double size = static_cast<double>(bytes);
  return size * (1 - ratio) * link_ns_per_byte > kCpuNsPerCall + size * kCpuNsPerByte;
}

bool Compressor::State::shall_try(size_t bytes) {
  if (mode == CompressionMode::kNever || bytes < limits::compress_bytes_min || bytes > kCompressBytesMax) return false;
  if (mode == CompressionMode::kAlways) return true;
  // Even zero bytes would not be worth it: no sample could change that.
  if (static_cast<double>(bytes) * (link_ns_per_byte - kCpuNsPerByte) <= kCpuNsPerCall) return false;
  if (pays(bytes) || ++declined >= kSampleInterval) {
    declined = 0;
    return true;
  }
  return false;
}

void Compressor::State::learn(double new_ratio) {
  ratio = has_ratio ? ratio + kRatioWeight * (new_ratio - ratio) : new_ratio;
  has_ratio = true;
}

Compressor::Compressor(CompressionMode mode, double link_ns_per_byte) : state_(std::make_unique<State>()) {
  state_->mode = mode;
  state_->link_ns_per_byte = link_ns_per_byte;
}
Compressor::~Compressor() = default;
Compressor::Compressor(Compressor&&) noexcept = default;
Compressor& Compressor::operator=(Compressor&&) noexcept = default;

uint64_t Compressor::tried() const { return state_->tried; }

std::optional<Slice> Compressor::compress(ByteView plain) {
  if (!state_->shall_try(plain.size())) return std::nullopt;
  ++state_->tried;
  // With no more room than this, zstd itself finds out that it is not worth it.
  const size_t room = plain.size() - (plain.size() >> kMustSaveShift);
  BlockRef block = Block::allocate(room);
  const size_t size = ZSTD_compressCCtx(compression_context(), block->data(), room, plain.data(), plain.size(), kLevel);
  if (ZSTD_isError(size) != 0) {
    state_->learn(1.0);
    return std::nullopt;
  }
  // The receiver would have to take it for a bomb.
  if (plain.size() > inflated_bytes_max(size)) {
    state_->learn(1.0);
    return std::nullopt;
  }
  state_->learn(static_cast<double>(size) / static_cast<double>(plain.size()));
  const uint8_t* const data = block->data();
  return Slice(std::move(block), data, size).compact();
}

Result<Slice> decompress(ByteView compressed, size_t limit_bytes) {
  if (!is_zstd_frame(compressed)) return fail(kZstdBroken);
  const unsigned long long declared = ZSTD_getFrameContentSize(compressed.data(), compressed.size());
  if (declared == ZSTD_CONTENTSIZE_ERROR) return fail(kZstdBroken);
  if (declared == ZSTD_CONTENTSIZE_UNKNOWN) return fail(kZstdSize);
  if (declared > std::min(limit_bytes, inflated_bytes_max(compressed.size()))) return fail(kZstdTooLarge);
  if (!has_bounded_window(compressed, declared)) return fail(kZstdWindow);
  if (ZSTD_findFrameCompressedSize(compressed.data(), compressed.size()) != compressed.size()) return fail(kZstdBroken);

  const size_t size = static_cast<size_t>(declared);
  BlockRef block = Block::allocate(size);
  uint8_t* const data = block->data();
  const size_t written = ZSTD_decompressDCtx(decompression_context(), data, size, compressed.data(), compressed.size());
  if (ZSTD_isError(written) != 0 || written != size) return fail(kZstdBroken);
  return Slice(std::move(block), data, size);
}

}  // namespace mesh::wire
