#include "sidecar/io/lmdb_environment.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

namespace mesh::io {
namespace {

// All that are missing on the way, for us alone, and on disk.
int make_directories(const std::string& path) {
  for (size_t end = path.find('/', 1); end != path.npos + 1; end = path.find('/', end + 1)) {
    const std::string prefix = path.substr(0, end);
    if (mkdir(prefix.c_str(), 0700) == 0) {
      const size_t slash = prefix.find_last_of('/');
      if (const int status = sync_directory(slash == prefix.npos ? "." : prefix.substr(0, slash + 1))) return status;
    } else if (errno != EEXIST) {
      return errno;
    }
    if (end == path.npos) break;
  }
  return 0;
}

// LMDB ends the process when its tree contradicts itself. Whoever looks for the reason should find one.
void tell_damage(MDB_env* env, const char* what) {
  const char* path = "?";
  mdb_env_get_path(env, &path);
  dprintf(STDERR_FILENO, "the store %s is damaged (%s): move it aside to begin with an empty one\n", path, what);
}

}  // namespace

bool is_lack_of_room(int status) {
  return status == kFull || status == MDB_MAP_FULL || status == MDB_TXN_FULL || status == ENOSPC || status == EDQUOT ||
         status == EFBIG;
}

int sync_directory(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return errno;
  const int status = fsync(fd) == 0 ? 0 : errno;
  close(fd);
  return status;
}

bool copy_mapped(ByteView from, uint8_t* to) {
  iovec source{const_cast<uint8_t*>(from.data()), from.size()};
  iovec target{to, from.size()};
  const ssize_t count = process_vm_readv(getpid(), &target, 1, &source, 1, 0);
  if (count == static_cast<ssize_t>(from.size())) return true;
  if (count >= 0 || (errno != ENOSYS && errno != EPERM)) return false;
  std::memcpy(to, from.data(), from.size());
  return true;
}

std::string text_for(int status, size_t map_bytes) {
  if (status == 0) return {};
  if (status == kTakenByAnother) return "another process uses it";
  if (status == kForeign) return "it belongs to another user";
  if (status == MDB_MAP_FULL || status == kFull) return "its " + std::to_string(map_bytes) + " bytes are full";
  return mdb_strerror(status);
}

std::string hint_for(int status) {
  if (status == kTakenByAnother) return "stop the other process, or give each its own store";
  if (status == EACCES || status == EPERM || status == EROFS || status == kForeign)
    return "let this user write there, or choose another path";
  if (status == MDB_MAP_FULL || status == kFull) return "let records end or be erased, or give the store more bytes";
  if (is_lack_of_room(status)) return "free space on this disk";
  if (status == ENOMEM) return "give the store fewer bytes; it needs as much address space";
  if (status < 0) return "move the store aside to begin with an empty one";
  return "see the system log for errors of the disk";
}

// LMDB copies the pages it changes, so that even erasing takes some: a store that puts may fill could not be emptied.
// The list of what an erased record frees takes 8 bytes for each of its pages.
size_t LmdbEnvironment::file_bytes_max() const {
  const auto page_bytes = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  return (map_bytes_ + map_bytes_ / 256 + (size_t{1} << 18)) / page_bytes * page_bytes;
}

LmdbEnvironment::~LmdbEnvironment() {
  close();
  if (lock_fd_ >= 0) ::close(lock_fd_);
}

void LmdbEnvironment::close() {
  if (env_ != nullptr) mdb_env_close(std::exchange(env_, nullptr));
}

int LmdbEnvironment::take() {
  if (const int status = make_directories(path_)) return status;
  return lock();
}

int LmdbEnvironment::lock() {
  if (lock_fd_ >= 0) ::close(std::exchange(lock_fd_, -1));
  lock_fd_ = ::open((path_ + "/owner.lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (lock_fd_ < 0) return errno;
  if (flock(lock_fd_, LOCK_EX | LOCK_NB) == 0) return 0;
  return errno == EWOULDBLOCK ? kTakenByAnother : errno;
}

int LmdbEnvironment::open() {
  close();
  if (const int status = mdb_env_create(&env_)) return status;
  mdb_env_set_assert(env_, tell_damage);
  int status = mdb_env_set_mapsize(env_, file_bytes_max());
  // MDB_NOTLS: jobs run on whichever thread of the pool is free.
  if (status == 0) status = mdb_env_open(env_, path_.c_str(), flags_ | MDB_NOTLS, 0600);
  int dead_readers = 0;
  if (status == 0) status = mdb_reader_check(env_, &dead_readers);
  if (status == 0) status = cover_last_page();
  if (status == 0) status = open_database();
  if (status != 0) close();
  return status;
}

int LmdbEnvironment::open_database() {
  LmdbTransaction transaction;
  if (const int status = transaction.begin(env_, MDB_RDONLY)) return status;
  if (const int status = mdb_dbi_open(transaction.get(), nullptr, 0, &dbi_)) return status;
  return transaction.commit();
}

// A file that was cut must not be a SIGBUS when the missing part is read: zeros are noticed as damage.
int LmdbEnvironment::cover_last_page() {
  MDB_envinfo info;
  MDB_stat root;
  int fd = -1;
  struct stat file {};
  if (const int status = mdb_env_info(env_, &info)) return status;
  if (const int status = mdb_env_stat(env_, &root)) return status;
  if (const int status = mdb_env_get_fd(env_, &fd)) return status;
  fcntl(fd, F_SETFD, FD_CLOEXEC);  // LMDB does so for its other files only
  if (fstat(fd, &file) != 0) return errno;
  page_bytes_ = root.ms_psize;
  const auto needed = static_cast<off_t>((info.me_last_pgno + 1) * page_bytes_);
  if (file.st_size >= needed) return 0;
  return ftruncate(fd, needed) == 0 ? 0 : errno;
}

int LmdbEnvironment::begin(LmdbTransaction& transaction, bool is_read_only) {
  return env_ == nullptr ? MDB_PANIC : transaction.begin(env_, is_read_only ? MDB_RDONLY : 0);
}

}  // namespace mesh::io
