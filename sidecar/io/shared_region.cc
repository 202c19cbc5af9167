#include "sidecar/io/shared_region.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace mesh::io {
namespace {

// Not an errno.
constexpr int kNotOurs = -1;
constexpr int kNoSize = -2;
// Others may make or remove the file meanwhile.
constexpr int kOpenTriesMax = 8;
// A signal takes back what was reserved so far.
constexpr int kReserveTriesMax = 16;

size_t page_bytes() { return static_cast<size_t>(sysconf(_SC_PAGESIZE)); }

Error explain(int status, const std::string& path) {
  const bool is_denied = status == kNotOurs || status == ELOOP || status == EACCES || status == EPERM;
  const char* what = status == kNotOurs  ? "it is no file of this user alone"
                     : status == kNoSize ? "it has no size that memory can have"
                                         : std::strerror(status);
  Error error = rule_broken(is_denied ? Code::kDenied : Code::kStorage, "shared_memory",
                            "cannot share memory in " + path + ": " + what);
  error.hint = is_denied           ? "remove it, or choose a place where only this user writes"
               : status == kNoSize ? "remove it when no sidecar runs"
                                   : "see that there is a tmpfs with room, such as /dev/shm";
  return error;
}

}  // namespace

Result<std::unique_ptr<SharedRegion>> SharedRegion::open(const std::string& path, size_t bytes) {
  std::unique_ptr<SharedRegion> region(new SharedRegion(path));
  int status = ENOENT;
  for (int tries = 0; tries < kOpenTriesMax && (status == ENOENT || status == EEXIST); ++tries) {
    status = region->open_file();
    if (status == ENOENT) status = region->make_file(bytes);
  }
  if (status == 0) status = region->map();
  if (status == 0) return region;
  return Unexpected(explain(status, path));
}

SharedRegion::~SharedRegion() {
  if (!memory_.empty()) munmap(memory_.data(), memory_.size());
  if (fd_ >= 0) close(fd_);
}

int SharedRegion::open_file() {
  // A fifo or a device must not keep us waiting.
  fd_ = ::open(path_.c_str(), O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
  return fd_ >= 0 ? 0 : errno;
}

// It has its name only when it has its size. EEXIST if another was faster.
int SharedRegion::make_file(size_t bytes) {
  const size_t slash = path_.find_last_of('/');
  const std::string directory = slash == path_.npos ? "." : path_.substr(0, slash + 1);
  const int fd = ::open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (fd < 0) return errno == ENOENT ? ENOTDIR : errno;
  const size_t rounded = (bytes + page_bytes() - 1) / page_bytes() * page_bytes();
  const std::string nameless = "/proc/self/fd/" + std::to_string(fd);
  const bool is_made = fchmod(fd, 0600) == 0 && ftruncate(fd, static_cast<off_t>(rounded)) == 0 &&
                       linkat(AT_FDCWD, nameless.c_str(), AT_FDCWD, path_.c_str(), AT_SYMLINK_FOLLOW) == 0;
  const int status = is_made ? 0 : errno;
  if (!is_made) close(fd);
  if (is_made) fd_ = fd;
  return status;
}

int SharedRegion::map() {
  struct stat info {};
  if (fstat(fd_, &info) != 0) return errno;
  if (!S_ISREG(info.st_mode) || info.st_uid != geteuid() || (info.st_mode & 077) != 0) return kNotOurs;
  const auto bytes = static_cast<size_t>(info.st_size);
  if (bytes == 0 || bytes % page_bytes() != 0) return kNoSize;
  void* const at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd_, 0);
  if (at == MAP_FAILED) return errno;
  memory_ = {static_cast<std::byte*>(at), bytes};
  madvise(at, bytes, MADV_DONTDUMP);  // replies belong in no core dump
  return 0;
}

bool SharedRegion::reserve(size_t offset, size_t bytes) {
  // posix_fallocate would write into the file where the file system cannot do it, over what others write.
  for (int tries = 0; tries < kReserveTriesMax; ++tries) {
    if (fallocate(fd_, FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset), static_cast<off_t>(bytes)) == 0) return true;
    if (errno != EINTR) return false;
  }
  return false;
}

}  // namespace mesh::io
