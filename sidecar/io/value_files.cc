#include "sidecar/io/value_files.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <memory>
#include <string_view>

namespace mesh::io {
namespace {

constexpr std::string_view kDigits = "0123456789abcdef";

class Descriptor {
 public:
  Descriptor(const std::string& path, int flags) : fd_(open(path.c_str(), flags | O_CLOEXEC | O_NOFOLLOW, 0600)) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }
  int close() { return ::close(std::exchange(fd_, -1)) == 0 ? 0 : errno; }

 private:
  int fd_;
};

struct CloseDirectory {
  void operator()(DIR* directory) const { closedir(directory); }
};

std::string hex_of(const Content& content) {
  std::string text;
  for (const uint64_t half : {content.high, content.low}) {
    for (int shift = 60; shift >= 0; shift -= 4) text += kDigits[half >> shift & 15];
  }
  return text;
}

std::optional<Content> content_named(std::string_view name) {
  Content content;
  if (name.size() != 32 || name.find_first_not_of(kDigits) != name.npos) return std::nullopt;
  std::from_chars(name.data(), name.data() + 16, content.high, 16);
  std::from_chars(name.data() + 16, name.data() + 32, content.low, 16);
  return content;
}

int write_all(int fd, ByteView bytes) {
  while (!bytes.empty()) {
    const ssize_t count = write(fd, bytes.data(), bytes.size());
    if (count < 0 && errno != EINTR) return errno;
    if (count > 0) bytes = bytes.subspan(static_cast<size_t>(count));
  }
  return 0;
}

// EBADMSG if the file ends before.
int read_all(int fd, uint8_t* into, size_t bytes) {
  while (bytes > 0) {
    const ssize_t count = read(fd, into, bytes);
    if (count < 0 && errno != EINTR) return errno;
    if (count == 0) return EBADMSG;
    if (count > 0) into += count, bytes -= static_cast<size_t>(count);
  }
  return 0;
}

bool has_size(int fd, uint64_t size) {
  struct stat info {};
  return fstat(fd, &info) == 0 && S_ISREG(info.st_mode) && static_cast<uint64_t>(info.st_size) == size;
}

int make_directory(const std::string& path) { return mkdir(path.c_str(), 0700) == 0 || errno == EEXIST ? 0 : errno; }

}  // namespace

std::string ValueFiles::folder_path(int folder) const {
  return path_ + '/' + kDigits[static_cast<size_t>(folder >> 4)] + kDigits[static_cast<size_t>(folder & 15)];
}

std::string ValueFiles::file_path(const Content& content) const {
  return folder_path(static_cast<int>(content.high >> 56)) + '/' + hex_of(content);
}

bool ValueFiles::holds(const std::string& file, ByteView value) const {
  const Descriptor from(file, O_RDONLY);
  if (from.get() < 0 || !has_size(from.get(), value.size())) return false;
  std::array<uint8_t, 16 << 10> part;
  while (!value.empty()) {
    const size_t bytes = std::min(part.size(), value.size());
    if (read_all(from.get(), part.data(), bytes) != 0) return false;
    if (std::memcmp(part.data(), value.data(), bytes) != 0) return false;
    value = value.subspan(bytes);
  }
  return true;
}

int ValueFiles::write(const Content& content, ByteView value) const {
  const std::string file = file_path(content);
  if (holds(file, value)) return 0;
  if (const int status = make_directory(path_)) return status;
  if (const int status = make_directory(folder_path(static_cast<int>(content.high >> 56)))) return status;
  const std::string draft = file + ".new";
  Descriptor to(draft, O_WRONLY | O_CREAT | O_TRUNC);
  if (to.get() < 0) return errno;
  int status = write_all(to.get(), value);
  if (const int closed = to.close(); status == 0) status = closed;
  if (status == 0 && rename(draft.c_str(), file.c_str()) != 0) status = errno;
  if (status != 0) unlink(draft.c_str());
  return status;
}

int ValueFiles::read(const Content& content, uint64_t size, Slice& value) const {
  const Descriptor from(file_path(content), O_RDONLY);
  if (from.get() < 0) return errno;
  if (!has_size(from.get(), size)) return EBADMSG;
  BlockRef block = Block::allocate(size);
  if (const int status = read_all(from.get(), block->data(), size)) return status;
  value = Slice(block, block->data(), size);
  return content_of(value.view()) == content ? 0 : EBADMSG;
}

void ValueFiles::remove(const Content& content) const { unlink(file_path(content).c_str()); }

void ValueFiles::sweep(int folder, const std::function<bool(const Content&)>& is_wanted) const {
  const std::string path = folder_path(folder);
  const std::unique_ptr<DIR, CloseDirectory> directory(opendir(path.c_str()));
  if (directory == nullptr) return;
  while (const dirent* found = readdir(directory.get())) {
    const std::string_view name = found->d_name;
    if (name == "." || name == "..") continue;
    const auto content = content_named(name);
    if (!content || !is_wanted(*content)) unlinkat(dirfd(directory.get()), found->d_name, 0);
  }
}

}  // namespace mesh::io
