#include "sidecar/io/journal_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace mesh::io {
namespace {

struct Header {
  uint32_t magic;
  uint32_t bytes;
  uint64_t digest;  // of the record
};
constexpr uint32_t kMagic = 0x6c6e726a;

Unexpected storage_failed(const std::string& what, const std::string& path) {
  Error error = rule_broken(Code::kStorage, "journal", what + " " + path + ": " + std::strerror(errno));
  error.hint = "the directory must be writable, and its file system not full";
  return Unexpected(std::move(error));
}

std::string framed(std::span<const std::string> records) {
  std::string bytes;
  for (const std::string& record : records) {
    const Header header{kMagic, static_cast<uint32_t>(record.size()), XXH3_64bits(record.data(), record.size())};
    bytes.append(reinterpret_cast<const char*>(&header), sizeof(header));
    bytes += record;
  }
  return bytes;
}

bool write_all(int file, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(file, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  return true;
}

bool read_all(int file, std::string& bytes) {
  struct stat info {};
  if (fstat(file, &info) != 0) return false;
  bytes.resize(std::min<size_t>(static_cast<size_t>(info.st_size), JournalFile::kFileBytesMax));
  size_t filled = 0;
  while (filled < bytes.size()) {
    const ssize_t got = pread(file, bytes.data() + filled, bytes.size() - filled, static_cast<off_t>(filled));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return false;
    if (got == 0) break;
    filled += static_cast<size_t>(got);
  }
  bytes.resize(filled);
  return true;
}

void split(std::string_view bytes, std::vector<std::string>& records) {
  while (bytes.size() >= sizeof(Header)) {
    Header header;
    std::memcpy(&header, bytes.data(), sizeof(header));
    bytes.remove_prefix(sizeof(header));
    if (header.magic != kMagic || header.bytes > JournalFile::kRecordBytesMax || header.bytes > bytes.size()) return;
    const std::string_view record = bytes.substr(0, header.bytes);
    if (XXH3_64bits(record.data(), record.size()) != header.digest) return;
    records.emplace_back(record);
    bytes.remove_prefix(record.size());
  }
}

}  // namespace

Result<JournalFile> JournalFile::open(const std::string& path, std::vector<std::string>& records) {
  OwnedFd file(::open(path.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600));
  std::string bytes;
  if (!file || !read_all(file.get(), bytes)) return storage_failed("cannot read", path);
  split(bytes, records);
  return JournalFile(path, std::move(file));
}

Result<void> JournalFile::append(std::span<const std::string> records) {
  const std::string bytes = framed(records);
  // A part of it would hide all that is written after it.
  if (!write_all(file_.get(), bytes)) return storage_failed("cannot write", path_);
  bytes_ += bytes.size();
  return {};
}

Result<void> JournalFile::rewrite(std::span<const std::string> records) {
  const std::string fresh = path_ + ".new";
  OwnedFd file(::open(fresh.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600));
  const std::string bytes = framed(records);
  if (!file || !write_all(file.get(), bytes) || rename(fresh.c_str(), path_.c_str()) != 0)
    return storage_failed("cannot write", path_);
  file_ = std::move(file);
  bytes_ = bytes.size();
  return {};
}

}  // namespace mesh::io
