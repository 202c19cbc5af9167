#include "sidecar/io/state_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace mesh::io {
namespace {

constexpr uint64_t kMagic = 0x3130'6574'6174'736DULL;  // "mstate01"
constexpr uint32_t kEntriesMax = 4096;

struct FileHeader {
  uint64_t magic;
  uint64_t count;
};
// Behind it: count keys of 8 bytes, then count numbers of 4.

// FNV-1a: only has to tell the ports of one file apart.
uint64_t hash_of(std::string_view key) {
  uint64_t hash = 0xCBF29CE484222325ULL;
  for (const char c : key) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3ULL;
  return hash;
}

struct Saved {
  std::vector<uint64_t> keys;
  std::vector<uint32_t> numbers;
};

Saved read_saved(int fd) {
  FileHeader header{};
  if (pread(fd, &header, sizeof(header), 0) != static_cast<ssize_t>(sizeof(header))) return {};
  if (header.magic != kMagic || header.count > kEntriesMax) return {};
  Saved saved{std::vector<uint64_t>(header.count), std::vector<uint32_t>(header.count)};
  const size_t key_bytes = saved.keys.size() * sizeof(uint64_t);
  const size_t number_bytes = saved.numbers.size() * sizeof(uint32_t);
  if (pread(fd, saved.keys.data(), key_bytes, sizeof(header)) != static_cast<ssize_t>(key_bytes)) return {};
  const auto numbers_at = static_cast<off_t>(sizeof(header) + key_bytes);
  if (pread(fd, saved.numbers.data(), number_bytes, numbers_at) != static_cast<ssize_t>(number_bytes)) return {};
  return saved;
}

}  // namespace

StateFile::StateFile(const std::string& path, const std::vector<std::string>& keys) : fallback_(keys.size(), 0) {
  numbers_ = fallback_;
  if (keys.empty()) return;
  fd_ = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd_ < 0) {
    problem_ = "cannot open " + path + ": " + std::strerror(errno);
    return;
  }
  // A second process, started by mistake, must not cut the file under the first one.
  if (flock(fd_, LOCK_EX | LOCK_NB) != 0) {
    problem_ = "another process uses " + path;
    return;
  }
  const Saved saved = read_saved(fd_);
  std::vector<uint32_t> previous(keys.size(), 0);
  for (size_t i = 0; i < keys.size(); ++i) {
    for (size_t k = 0; k < saved.keys.size(); ++k) {
      if (saved.keys[k] == hash_of(keys[i])) previous[i] = saved.numbers[k];
    }
  }
  const size_t bytes = sizeof(FileHeader) + keys.size() * (sizeof(uint64_t) + sizeof(uint32_t));
  // Allocated, not sparse: writing to a mapped hole on a full disk would be a SIGBUS.
  int status = ftruncate(fd_, 0) != 0 ? errno : posix_fallocate(fd_, 0, static_cast<off_t>(bytes));
  void* mapping = MAP_FAILED;
  if (status == 0) {
    mapping = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd_, 0);
    if (mapping == MAP_FAILED) status = errno;
  }
  if (status != 0) {
    problem_ = "cannot use " + path + ": " + std::strerror(status);
    return;
  }
  mapping_ = mapping;
  mapped_bytes_ = bytes;
  auto* header = static_cast<FileHeader*>(mapping);
  auto* saved_keys = reinterpret_cast<uint64_t*>(header + 1);
  auto* numbers = reinterpret_cast<uint32_t*>(saved_keys + keys.size());
  for (size_t i = 0; i < keys.size(); ++i) saved_keys[i] = hash_of(keys[i]);
  for (size_t i = 0; i < keys.size(); ++i) numbers[i] = previous[i];
  *header = {kMagic, keys.size()};
  numbers_ = {numbers, keys.size()};
}

StateFile::~StateFile() {
  if (mapping_ != nullptr) munmap(mapping_, mapped_bytes_);
  if (fd_ >= 0) close(fd_);
}

}  // namespace mesh::io
