#include <doctest/doctest.h>
#include <zstd.h>

#include <string>

#include "common/base/limits.h"
#include "common/base/prng.h"
#include "common/wire/compression.h"

namespace mesh::wire {
namespace {

constexpr double kGigabitNsPerByte = 8;
constexpr double kMegabitNsPerByte = 8000;

std::string repetitive(size_t size) {
  std::string text;
  while (text.size() < size) text += "{\"action\":\"translate\",\"n\":" + std::to_string(text.size()) + "},";
  return text.substr(0, size);
}

std::string noise(size_t size) {
  Prng prng(7);
  std::string text(size, '\0');
  for (char& c : text) c = static_cast<char>(prng.next());
  return text;
}

std::string zstd(const std::string& plain, int level = 1, int window_log = 0, bool declare_size = true) {
  ZSTD_CCtx* context = ZSTD_createCCtx();
  ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, level);
  ZSTD_CCtx_setParameter(context, ZSTD_c_contentSizeFlag, declare_size ? 1 : 0);
  if (window_log != 0) ZSTD_CCtx_setParameter(context, ZSTD_c_windowLog, window_log);
  std::string compressed(ZSTD_compressBound(plain.size()), '\0');
  const size_t size = ZSTD_compress2(context, compressed.data(), compressed.size(), plain.data(), plain.size());
  ZSTD_freeCCtx(context);
  REQUIRE(ZSTD_isError(size) == 0);
  compressed.resize(size);
  return compressed;
}

std::string broken_rule(const std::string& compressed, size_t limit_bytes = limits::message_bytes) {
  const Result<Slice> plain = decompress(as_bytes(compressed), limit_bytes);
  return plain ? "" : plain.error().rule;
}

TEST_CASE("what was compressed comes back") {
  Compressor compressor(CompressionMode::kAlways, kGigabitNsPerByte);
  for (const size_t size : {limits::compress_bytes_min, size_t{10'000}, size_t{300'000}, size_t{2'000'000}}) {
    const std::string plain = repetitive(size);
    const std::optional<Slice> compressed = compressor.compress(as_bytes(plain));
    REQUIRE(compressed);
    CHECK(compressed->size() < plain.size() / 2);
    CHECK(compressed->held_bytes() <= 2 * compressed->size() + 64);
    const Result<Slice> again = decompress(compressed->view(), plain.size());
    REQUIRE(again);
    CHECK(again->text() == plain);
  }
}

TEST_CASE("never means never, and nothing below the least size or above the largest is touched") {
  const std::string plain = repetitive(100'000);
  CHECK_FALSE(Compressor(CompressionMode::kNever, kMegabitNsPerByte).compress(as_bytes(plain)));
  Compressor always(CompressionMode::kAlways, kGigabitNsPerByte);
  CHECK_FALSE(always.compress(as_bytes(repetitive(limits::compress_bytes_min - 1))));
  CHECK_FALSE(always.compress(as_bytes(repetitive(5 * limits::MiB))));
}

TEST_CASE("noise stays plain even when compression is always wanted") {
  CHECK_FALSE(Compressor(CompressionMode::kAlways, kGigabitNsPerByte).compress(as_bytes(noise(50'000))));
}

TEST_CASE("auto compresses text for a network and not for a loopback") {
  const std::string plain = repetitive(50'000);
  CHECK(Compressor(CompressionMode::kAuto, kGigabitNsPerByte).compress(as_bytes(plain)));
  CHECK_FALSE(Compressor(CompressionMode::kAuto, 0).compress(as_bytes(plain)));
  CHECK_FALSE(Compressor(CompressionMode::kAuto, 0.8).compress(as_bytes(plain)));  // 10 Gbit/s: faster than zstd
}

TEST_CASE("auto leaves a small message alone on a fast link that it would compress on a slow one") {
  const std::string plain = repetitive(600);
  CHECK_FALSE(Compressor(CompressionMode::kAuto, kGigabitNsPerByte).compress(as_bytes(plain)));
  CHECK(Compressor(CompressionMode::kAuto, kMegabitNsPerByte).compress(as_bytes(plain)));
}

TEST_CASE("auto gives up on noise after the first look, and notices within bounds that the traffic became text") {
  Compressor compressor(CompressionMode::kAuto, kGigabitNsPerByte);
  const std::string random = noise(20'000);
  const std::string text = repetitive(20'000);
  for (int i = 0; i < 10; ++i) CHECK_FALSE(compressor.compress(as_bytes(random)));
  CHECK_FALSE(compressor.compress(as_bytes(text)));  // not tried: the last was noise
  int until_every_time = 0;
  for (int in_a_row = 0; in_a_row < 3 && until_every_time < 10'000; ++until_every_time) {
    in_a_row = compressor.compress(as_bytes(text)) ? in_a_row + 1 : 0;
  }
  CHECK(until_every_time < 64 * 10);
}

TEST_CASE("a lying size is refused before anything is allocated") {
  // A frame header alone, which declares 60 MiB in a single segment: there is not even data behind it.
  std::string lie("\x28\xB5\x2F\xFD\xA0", 5);
  const uint32_t declared = 60 * limits::MiB;
  lie.append(reinterpret_cast<const char*>(&declared), sizeof declared);
  CHECK(broken_rule(lie) == "zstd_too_large");
  CHECK(decompress(as_bytes(lie), limits::message_bytes).error().code == Code::kTooLarge);
}

TEST_CASE("a bomb is refused by its ratio, although its size is below the limit") {
  const std::string bomb = zstd(std::string(8 * limits::MiB, '\0'), 1, 17);
  REQUIRE(bomb.size() * limits::inflate_ratio_max + limits::inflate_slack_bytes < 8 * limits::MiB);
  CHECK(broken_rule(bomb) == "zstd_too_large");
}

TEST_CASE("what would look like a bomb at the other end is left plain, and all that is compressed is accepted") {
  Compressor always(CompressionMode::kAlways, kGigabitNsPerByte);
  CHECK_FALSE(always.compress(as_bytes(std::string(limits::MiB, 'z'))));
  for (size_t size = limits::compress_bytes_min; size < 4 * limits::MiB; size = size * 3 / 2) {
    const std::string plain(size, 'z');
    if (const auto compressed = always.compress(as_bytes(plain))) CHECK(decompress(compressed->view(), size));
  }
}

TEST_CASE("a content above the caller's limit by one byte is too large") {
  const std::string compressed = zstd(repetitive(10'000));
  CHECK(broken_rule(compressed, 10'000) == "");
  CHECK(broken_rule(compressed, 9'999) == "zstd_too_large");
}

TEST_CASE("a frame that does not declare its size is refused") {
  CHECK(broken_rule(zstd(repetitive(10'000), 1, 0, false)) == "zstd_size_undeclared");
}

TEST_CASE("a window above the limit is refused, in both of its spellings") {
  const std::string plain = repetitive(3'000'000);
  CHECK(broken_rule(zstd(plain, 1, limits::zstd_window_log_max)) == "");
  CHECK(broken_rule(zstd(plain, 1, limits::zstd_window_log_max + 1)) == "zstd_window");
  CHECK(broken_rule(zstd(plain, 1, limits::zstd_window_log_max + 3)) == "zstd_window");  // a single segment
}

TEST_CASE("what is not exactly one whole frame is refused") {
  const std::string good = zstd(repetitive(10'000));
  REQUIRE(broken_rule(good) == "");
  const std::string skippable("\x50\x2A\x4D\x18\x00\x00\x00\x00", 8);
  CHECK(broken_rule("") == "zstd_broken");
  CHECK(broken_rule("plain text, not zstd") == "zstd_broken");
  CHECK(broken_rule(skippable) == "zstd_broken");
  CHECK(broken_rule(skippable + good) == "zstd_broken");
  CHECK(broken_rule(good + skippable) == "zstd_broken");
  CHECK(broken_rule(good + good) == "zstd_broken");
  for (size_t size = 0; size < good.size(); ++size) CHECK(broken_rule(good.substr(0, size)) != "");
}

}  // namespace
}  // namespace mesh::wire
