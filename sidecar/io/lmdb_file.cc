#include "sidecar/io/lmdb_file.h"

#include <fcntl.h>
#include <lmdb.h>
#include <sodium.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <new>
#include <utility>

#include "common/base/check.h"

namespace mesh::io {
namespace {

// Neither an errno nor LMDB's.
constexpr int kTakenByAnother = -1;
constexpr int kFull = -2;

// LMDB copies the pages it changes, so that even erasing takes some: a store that puts may fill could not be emptied.
// The list of what an erased record frees takes 8 bytes for each of its pages.
size_t with_reserve(size_t map_bytes) {
  const auto page_bytes = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  return (map_bytes + map_bytes / 256 + (size_t{1} << 18)) / page_bytes * page_bytes;
}

// Pages that these puts may take; a little too many. LMDB gives pages of their own to what is larger than half of one,
// and splits leave the others half empty.
size_t pages_for(std::span<const RecordRequest> range, size_t page_bytes) {
  constexpr size_t kNodeBytes = sizeof(RecordKey) + sizeof(RecordHeader) + 16;
  size_t pages = 0;
  size_t small_bytes = 0;
  for (const RecordRequest& request : range) {
    if (request.kind != RecordRequest::Kind::kPut) continue;
    size_t bytes = kNodeBytes;
    for (const Slice& piece : request.value) bytes += piece.size();
    if (bytes > page_bytes / 2) pages += bytes / page_bytes + 1;
    small_bytes += 2 * (bytes > page_bytes / 2 ? kNodeBytes : bytes);
  }
  return small_bytes == 0 ? 0 : pages + small_bytes / page_bytes + 1;
}

// A key that is no record's.
constexpr std::string_view kStepKey = "step";

MDB_val to_val(ByteView bytes) { return {bytes.size(), const_cast<uint8_t*>(bytes.data())}; }
ByteView to_view(const MDB_val& val) { return {static_cast<const uint8_t*>(val.mv_data), val.mv_size}; }

bool is_lack_of_room(int status) {
  return status == kFull || status == MDB_MAP_FULL || status == MDB_TXN_FULL || status == ENOSPC || status == EDQUOT ||
         status == EFBIG;
}

// One request may be to blame, and the others could still succeed. When the disk itself fails they could not.
bool is_worth_splitting(int status) { return is_lack_of_room(status) || (status < 0 && status != MDB_PANIC); }

int sync_directory(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return errno;
  const int status = fsync(fd) == 0 ? 0 : errno;
  close(fd);
  return status;
}

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

std::string hint_for(int status) {
  if (status == kTakenByAnother) return "stop the other process, or give each its own store";
  if (status == EACCES || status == EPERM || status == EROFS)
    return "let this user write there, or choose another path";
  if (status == MDB_MAP_FULL || status == kFull) return "let records end or be erased, or give the store more bytes";
  if (is_lack_of_room(status)) return "free space on this disk";
  if (status == ENOMEM) return "give the store fewer bytes; it needs as much address space";
  if (status < 0) return "move the store aside to begin with an empty one";
  return "see the system log for errors of the disk";
}

}  // namespace

// Aborts unless it was committed.
class LmdbFile::Transaction {
 public:
  Transaction() = default;
  ~Transaction() {
    if (txn_ != nullptr) mdb_txn_abort(txn_);
  }
  Transaction(const Transaction&) = delete;
  Transaction& operator=(const Transaction&) = delete;

  MDB_txn* get() const { return txn_; }
  int begin(MDB_env* env, unsigned flags) { return mdb_txn_begin(env, nullptr, flags, &txn_); }
  int commit() { return mdb_txn_commit(std::exchange(txn_, nullptr)); }

 private:
  MDB_txn* txn_ = nullptr;
};

LmdbFile::LmdbFile(std::string path, size_t map_bytes)
    : path_(std::move(path)), map_bytes_(map_bytes), boot_(current_boot_id()) {}

LmdbFile::~LmdbFile() {
  if (env_ != nullptr) mdb_env_close(env_);
  if (lock_fd_ >= 0) close(lock_fd_);
}

Result<std::unique_ptr<LmdbFile>> LmdbFile::open(const std::string& path, size_t map_bytes) {
  MESH_CHECK(sodium_init() >= 0);
  std::unique_ptr<LmdbFile> file(new LmdbFile(path, map_bytes));
  int status = make_directories(path);
  if (status == 0) status = file->lock();
  if (status == 0) status = file->open_environment();
  if (status == 0) status = sync_directory(path);
  if (status == 0) return file;
  Error error = rule_broken(Code::kStorage, "store", "cannot open the store " + path + ": " + file->explain(status));
  error.hint = hint_for(status);
  return Unexpected(std::move(error));
}

int LmdbFile::lock() {
  lock_fd_ = ::open((path_ + "/owner.lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (lock_fd_ < 0) return errno;
  if (flock(lock_fd_, LOCK_EX | LOCK_NB) == 0) return 0;
  return errno == EWOULDBLOCK ? kTakenByAnother : errno;
}

int LmdbFile::open_environment() {
  if (env_ != nullptr) mdb_env_close(std::exchange(env_, nullptr));
  if (const int status = mdb_env_create(&env_)) return status;
  mdb_env_set_assert(env_, tell_damage);
  int status = mdb_env_set_mapsize(env_, with_reserve(map_bytes_));
  // MDB_NOTLS: jobs run on whichever thread of the pool is free.
  if (status == 0) status = mdb_env_open(env_, path_.c_str(), MDB_NOTLS, 0600);
  int dead_readers = 0;
  if (status == 0) status = mdb_reader_check(env_, &dead_readers);
  if (status == 0) status = cover_last_page();
  if (status == 0) status = open_database();
  if (status != 0) mdb_env_close(std::exchange(env_, nullptr));
  return status;
}

int LmdbFile::open_database() {
  Transaction transaction;
  if (const int status = transaction.begin(env_, MDB_RDONLY)) return status;
  if (const int status = mdb_dbi_open(transaction.get(), nullptr, 0, &dbi_)) return status;
  return transaction.commit();
}

// A file that was cut must not be a SIGBUS when the missing part is read: zeros are noticed as damage.
int LmdbFile::cover_last_page() {
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

std::string LmdbFile::explain(int status) const {
  if (status == 0) return {};
  if (status == kTakenByAnother) return "another process uses it";
  if (status == MDB_MAP_FULL || status == kFull) return "its " + std::to_string(map_bytes_) + " bytes are full";
  return mdb_strerror(status);
}

// An environment that could not write its root refuses everything until it is opened anew.
int LmdbFile::begin(Transaction& transaction, bool is_read_only) {
  const unsigned flags = is_read_only ? MDB_RDONLY : 0;
  const int status = env_ == nullptr ? MDB_PANIC : transaction.begin(env_, flags);
  if (status != MDB_PANIC) return status;
  if (const int failed = open_environment()) return failed;
  return transaction.begin(env_, flags);
}

std::vector<RecordStore::Found> LmdbFile::recover(size_t head_bytes) {
  std::vector<RecordStore::Found> found;
  std::vector<std::vector<uint8_t>> broken;
  report_.status = walk(head_bytes, found, broken);
  report_.broken_records += broken.size();
  if (const int status = erase_broken(broken)) report_.status = status;
  return found;
}

int LmdbFile::walk(size_t head_bytes, std::vector<RecordStore::Found>& found,
                   std::vector<std::vector<uint8_t>>& broken) {
  Transaction transaction;
  if (const int status = begin(transaction, true)) return status;
  MDB_cursor* opened = nullptr;
  if (const int status = mdb_cursor_open(transaction.get(), dbi_, &opened)) return status;
  const std::unique_ptr<MDB_cursor, decltype(&mdb_cursor_close)> cursor(opened, mdb_cursor_close);
  const int64_t now_ns = boottime_ns();
  MDB_val key;
  MDB_val stored;
  int status = 0;
  while ((status = mdb_cursor_get(cursor.get(), &key, &stored, MDB_NEXT)) == 0) {
    const ByteView key_bytes = to_view(key);
    if (as_text(key_bytes) == kStepKey) continue;
    RecordKey record_key{};
    const bool is_key = key_bytes.size() == record_key.size();
    if (is_key) std::copy(key_bytes.begin(), key_bytes.end(), record_key.begin());
    const auto header = is_key ? read_header(record_key, to_view(stored)) : std::nullopt;
    if (!header) {
      broken.emplace_back(key_bytes.begin(), key_bytes.end());
      continue;
    }
    const ByteView value = to_view(stored).subspan(sizeof(RecordHeader));
    found.push_back({.key = record_key,
                     .head = Slice::copy_of(value.first(std::min(head_bytes, value.size()))),
                     .size = header->size,
                     .age = age_of(*header, boot_, now_ns)});
  }
  return status == MDB_NOTFOUND ? 0 : status;
}

int LmdbFile::erase_broken(const std::vector<std::vector<uint8_t>>& broken) {
  if (broken.empty()) return 0;
  Transaction transaction;
  if (const int status = begin(transaction, false)) return status;
  for (const auto& bytes : broken) {
    MDB_val key = to_val(bytes);
    const int status = mdb_del(transaction.get(), dbi_, &key, nullptr);
    if (status != 0 && status != MDB_NOTFOUND) return status;
  }
  if (const int status = transaction.commit()) return status;
  ++report_.commits;
  return 0;
}

void LmdbFile::run(std::span<RecordRequest> requests) noexcept {
  report_.status = 0;
  if (!requests.empty()) run_range(requests);
}

// A batch that fails is halved until only the request to blame is left: one large record among 64 costs six commits
// more, not 63.
void LmdbFile::run_range(std::span<RecordRequest> range) {
  int status = apply(range);
  if (status != 0 && range.size() > 1 && is_worth_splitting(status)) {
    run_range(range.first(range.size() / 2));
    run_range(range.subspan(range.size() / 2));
    return;
  }
  if (status == MDB_MAP_FULL && range.size() == 1 && has_fresh_free_pages_) {
    status = age_freed_pages();
    if (status == 0) status = apply(range);
  }
  if (status != 0) fail_range(range, status);
}

void LmdbFile::fail_range(std::span<RecordRequest> range, int status) {
  report_.status = status;
  for (RecordRequest& request : range) {
    if (request.kind == RecordRequest::Kind::kPut) ++report_.failed_puts;
    if (request.kind != RecordRequest::Kind::kLoad) continue;
    if (range.size() == 1 || apply(std::span(&request, 1)) != 0) request.loaded.reset();
  }
}

int LmdbFile::apply(std::span<RecordRequest> range) {
  const bool only_reads =
      std::all_of(range.begin(), range.end(), [](const auto& r) { return r.kind == RecordRequest::Kind::kLoad; });
  if (const int status = check_room(range)) return status;
  Transaction transaction;
  if (const int status = begin(transaction, only_reads)) return status;
  for (RecordRequest& request : range) {
    if (const int status = apply_one(transaction.get(), request)) return status;
  }
  if (only_reads) return 0;
  if (const int status = transaction.commit()) return status;
  ++report_.commits;
  has_fresh_free_pages_ = true;
  for (RecordRequest& request : range) request.is_stored = request.kind == RecordRequest::Kind::kPut;
  return 0;
}

int LmdbFile::apply_one(MDB_txn* transaction, RecordRequest& request) {
  if (request.kind == RecordRequest::Kind::kPut) return put(transaction, request);
  if (request.kind == RecordRequest::Kind::kLoad) return load(transaction, request);
  MDB_val key = to_val(request.key);
  const int status = mdb_del(transaction, dbi_, &key, nullptr);
  return status == MDB_NOTFOUND ? 0 : status;
}

int LmdbFile::put(MDB_txn* transaction, const RecordRequest& request) {
  const RecordHeader header = make_header(request.key, request.value, boot_, request.written_ns);
  MDB_val key = to_val(request.key);
  MDB_val room{sizeof(header) + header.size, nullptr};
  if (const int status = mdb_put(transaction, dbi_, &key, &room, MDB_RESERVE)) return status;
  auto* out = static_cast<uint8_t*>(room.mv_data);
  std::memcpy(out, &header, sizeof(header));
  out += sizeof(header);
  for (const Slice& piece : request.value) out = std::copy(piece.view().begin(), piece.view().end(), out);
  return 0;
}

int LmdbFile::load(MDB_txn* transaction, RecordRequest& request) {
  request.loaded.reset();
  MDB_val key = to_val(request.key);
  MDB_val stored;
  const int status = mdb_get(transaction, dbi_, &key, &stored);
  if (status != 0) return status == MDB_NOTFOUND ? 0 : status;
  try {
    const auto header = read_header(request.key, to_view(stored));
    if (header) request.loaded = Slice::copy_of(to_view(stored).subspan(sizeof(RecordHeader)));
    // Only now: what is given away is what was judged.
    if (header && is_intact(*header, request.loaded->view())) return 0;
  } catch (const std::bad_alloc&) {
    request.loaded.reset();
    report_.status = ENOMEM;
    return 0;
  }
  request.loaded.reset();
  ++report_.broken_records;
  return 0;
}

// So that what puts may fill leaves the reserve to erasures.
int LmdbFile::check_room(std::span<const RecordRequest> range) {
  const size_t wanted = pages_for(range, page_bytes_);
  if (wanted == 0) return 0;
  Transaction transaction;
  if (const int status = begin(transaction, true)) return status;
  MDB_envinfo info;
  if (const int status = mdb_env_info(env_, &info)) return status;
  const size_t limit = map_bytes_ / page_bytes_;
  size_t used = info.me_last_pgno + 1;
  if (used + wanted <= limit) return 0;
  // Database 0 lists the free pages, as mdb_stat reads it: by transaction, each list with its length before it.
  MDB_cursor* opened = nullptr;
  if (const int status = mdb_cursor_open(transaction.get(), 0, &opened)) return status;
  const std::unique_ptr<MDB_cursor, decltype(&mdb_cursor_close)> cursor(opened, mdb_cursor_close);
  MDB_val key;
  MDB_val list;
  int status = 0;
  while ((status = mdb_cursor_get(cursor.get(), &key, &list, MDB_NEXT)) == 0) {
    size_t count = 0;
    if (list.mv_size < sizeof(count)) return MDB_CORRUPTED;
    std::memcpy(&count, list.mv_data, sizeof(count));
    used -= std::min(used, count);
  }
  if (status != MDB_NOTFOUND) return status;
  return used + wanted <= limit ? 0 : kFull;
}

// What a commit frees can be used by the next but one. If a put fails for want of it there may never be a next: so we
// make one.
int LmdbFile::age_freed_pages() {
  Transaction transaction;
  if (const int status = begin(transaction, false)) return status;
  MDB_val key = to_val(as_bytes(kStepKey));
  MDB_val value = to_val(ByteView(reinterpret_cast<const uint8_t*>(&report_.commits), sizeof(report_.commits)));
  if (const int status = mdb_put(transaction.get(), dbi_, &key, &value, 0)) return status;
  if (const int status = transaction.commit()) return status;
  ++report_.commits;
  has_fresh_free_pages_ = false;
  return 0;
}

}  // namespace mesh::io
