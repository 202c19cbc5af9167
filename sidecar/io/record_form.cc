#include "sidecar/io/record_form.h"

#include <fcntl.h>
#include <sodium.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <ctime>

namespace mesh::io {
namespace {

constexpr uint64_t kMagic = 0x3130'3064'7263'656DULL;  // "mecrd001"

// BLAKE2b, as libsodium has it.
class Digesting {
 public:
  Digesting() { crypto_generichash_init(&state_, nullptr, 0, sizeof(Digest)); }
  Digesting& add(ByteView bytes) {
    crypto_generichash_update(&state_, bytes.data(), bytes.size());
    return *this;
  }
  Digest take() {
    Digest digest;
    crypto_generichash_final(&state_, digest.data(), digest.size());
    return digest;
  }

 private:
  crypto_generichash_state state_;
};

Digest digest_of(const RecordKey& key, const RecordHeader& header) {
  const ByteView bytes{reinterpret_cast<const uint8_t*>(&header), offsetof(RecordHeader, header_digest)};
  return Digesting().add(key).add(bytes).take();
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

}  // namespace

BootId parse_boot_id(std::string_view text) {
  BootId boot{};
  size_t digits = 0;
  for (const char c : text) {
    if (c == '-') continue;
    const int digit = hex_digit(c);
    if (digit < 0 || digits == 2 * boot.size()) break;
    boot[digits / 2] = static_cast<uint8_t>(boot[digits / 2] << 4 | digit);
    ++digits;
  }
  return digits == 2 * boot.size() ? boot : BootId{};
}

BootId current_boot_id() {
  const int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return {};
  std::array<char, 64> text;
  const ssize_t count = read(fd, text.data(), text.size());
  close(fd);
  return parse_boot_id({text.data(), static_cast<size_t>(std::max<ssize_t>(0, count))});
}

int64_t boottime_ns() {
  timespec now{};
  clock_gettime(CLOCK_BOOTTIME, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

RecordHeader make_header(const RecordKey& key, std::span<const Slice> value, const BootId& boot, int64_t written_ns) {
  RecordHeader header{};
  header.magic = kMagic;
  header.boot = boot;
  header.written_ns = written_ns;
  Digesting digesting;
  for (const Slice& piece : value) {
    header.size += piece.size();
    digesting.add(piece.view());
  }
  header.value_digest = digesting.take();
  header.header_digest = digest_of(key, header);
  return header;
}

std::optional<RecordHeader> read_header(const RecordKey& key, ByteView stored) {
  RecordHeader header;
  if (stored.size() < sizeof(header)) return std::nullopt;
  std::memcpy(&header, stored.data(), sizeof(header));
  if (header.magic != kMagic || header.size != stored.size() - sizeof(header)) return std::nullopt;
  if (header.header_digest != digest_of(key, header)) return std::nullopt;
  return header;
}

bool is_intact(const RecordHeader& header, ByteView value) {
  return Digesting().add(value).take() == header.value_digest;
}

Duration age_of(const RecordHeader& header, const BootId& boot, int64_t now_ns) {
  if (boot == BootId{} || header.boot != boot) return Duration::zero();
  return Duration(std::max<int64_t>(0, now_ns - header.written_ns));
}

}  // namespace mesh::io
