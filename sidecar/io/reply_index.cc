#include "sidecar/io/reply_index.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <mutex>
#include <utility>

#include "sidecar/io/lmdb_check.h"
#include "sidecar/io/record_form.h"

namespace mesh::io {
namespace {

constexpr uint64_t kSlackMin = 1 << 20;
constexpr uint64_t kSlackMax = 16 << 20;

bool is_damage(int status) {
  return status == MDB_CORRUPTED || status == MDB_PAGE_NOTFOUND || status == MDB_INVALID ||
         status == MDB_VERSION_MISMATCH || status == MDB_INCOMPATIBLE || status == MDB_CURSOR_FULL;
}

int64_t steady_ms() { return boottime_ns() / 1'000'000; }

uint64_t free_bytes(const std::string& path) {
  struct statvfs info {};
  return statvfs(path.c_str(), &info) == 0 ? info.f_bavail * info.f_frsize : UINT64_MAX;
}

// Ours alone: what others could write there would be given as replies.
int check_owner(const std::string& path) {
  struct stat info {};
  if (stat(path.c_str(), &info) != 0) return errno;
  if (!S_ISDIR(info.st_mode)) return ENOTDIR;
  if (info.st_uid != geteuid()) return kForeign;
  if ((info.st_mode & 077) != 0 && chmod(path.c_str(), 0700) != 0) return errno;
  return 0;
}

}  // namespace

ReplyIndex::ReplyIndex(const std::string& path, uint64_t budget_bytes, int64_t retry_ms)
    : budget_bytes_(std::max(budget_bytes, kBudgetBytesMin)),
      slack_bytes_(std::clamp(budget_bytes_ / 16, kSlackMin, kSlackMax)),
      small_bytes_max_(budget_bytes_ / 2 - slack_bytes_),
      retry_ms_(retry_ms),
      environment_(path, budget_bytes_ / 2, MDB_NOMETASYNC | MDB_NORDAHEAD),
      files_(path + "/values"),
      prng_(static_cast<uint64_t>(boottime_ns())) {}

ReplyIndex::~ReplyIndex() {
  if (is_serving_ && has_unsynced_root_) mdb_env_sync(environment_.get(), 1);
}

void ReplyIndex::note(int status, std::string_view what) {
  report_.last_error = std::string(what) + ": " + text_for(status, environment_.map_bytes());
}

int ReplyIndex::open() {
  const std::unique_lock lock(closing_);
  environment_.close();
  is_serving_ = false;
  int status = environment_.take();
  if (status == 0) status = check_owner(environment_.path());
  if (status == 0 && std::exchange(must_begin_anew_, false)) status = MDB_CORRUPTED;
  if (status == 0) status = open_once();
  if (is_damage(status)) {
    if (status = begin_anew(); status == 0) status = open_once();
  }
  is_serving_ = status == 0;
  if (status != 0) {
    note(status, "cannot open");
    environment_.close();
    retry_at_ms_ = steady_ms() + retry_ms_;
  }
  return status;
}

int ReplyIndex::open_once() {
  // A file never shrinks: one that is larger than the budget allows begins anew.
  uint64_t sum = 0;
  const auto add = [&sum](ByteView key) { sum += name_sum(key); };
  if (const int status = check_tree(environment_.path(), environment_.file_bytes_max(), add)) return status;
  if (const int status = environment_.open()) return status;
  MDB_envinfo info;
  if (const int status = mdb_env_info(environment_.get(), &info)) return status;
  LmdbTransaction transaction;
  if (const int status = environment_.begin(transaction, true)) return status;
  const IndexKey at = IndexKey::totals();
  MDB_val key = to_val(at.view());
  MDB_val stored;
  const int status = mdb_get(transaction.get(), environment_.database(), &key, &stored);
  if (status != 0 && status != MDB_NOTFOUND) return status;
  totals_ = Totals{};
  if (status == 0) {
    const auto totals = read_totals(to_view(stored));
    if (!totals || totals->transaction != info.me_last_txnid || totals->name_sum != sum) return MDB_CORRUPTED;
    totals_ = *totals;
  } else if (info.me_last_txnid != 0) {
    return MDB_CORRUPTED;
  }
  folder_to_sweep_ = 0;
  has_unsynced_root_ = true;
  return sync_directory(environment_.path());
}

// Holds the lock. The files that nobody knows any more are swept.
int ReplyIndex::begin_anew() {
  environment_.close();
  is_serving_ = false;
  must_begin_anew_ = true;
  for (const char* name : {"/data.mdb", "/lock.mdb"}) {
    if (unlink((environment_.path() + name).c_str()) != 0 && errno != ENOENT) return errno;
  }
  if (const int status = sync_directory(environment_.path())) return status;
  must_begin_anew_ = false;
  ++report_.begun_anew;
  return 0;
}

void ReplyIndex::close(int status) {
  const std::unique_lock lock(closing_);
  note(status, "closed");
  environment_.close();
  is_serving_ = false;
}

// The directory was taken away under it, or another one put there.
bool ReplyIndex::is_removed() const {
  int fd = -1;
  struct stat held {};
  struct stat named {};
  if (mdb_env_get_fd(environment_.get(), &fd) != 0 || fstat(fd, &held) != 0) return true;
  if (stat((environment_.path() + "/data.mdb").c_str(), &named) != 0) return true;
  return held.st_ino != named.st_ino || held.st_dev != named.st_dev;
}

void ReplyIndex::run(std::span<ReplyRequest> requests) noexcept {
  if (is_serving_ && is_removed()) {
    close(ENOENT);
    retry_at_ms_ = 0;
  }
  if (!is_serving_ && steady_ms() >= retry_at_ms_) open();
  while (is_serving_ && !requests.empty()) requests = requests.subspan(run_some(requests));
  for (const ReplyRequest& request : requests) {
    if (request.kind == ReplyRequest::Kind::kPut) ++report_.refused;
  }
  if (is_serving_) sweep();
  update_report();
}

// Gives back how many are dealt with. One that asks too much may be to blame for the failure of all: half as many are
// tried then.
size_t ReplyIndex::run_some(std::span<ReplyRequest> requests) {
  if (requests[0].kind == ReplyRequest::Kind::kEraseAll) {
    must_begin_anew_ = true;
    const uint64_t before = report_.begun_anew;
    requests[0].is_done = open() == 0;
    report_.begun_anew = before;  // nothing was wrong
    return requests[0].is_done ? 1 : 0;
  }
  const auto all = std::find_if(requests.begin(), requests.end(),
                                [](const auto& r) { return r.kind == ReplyRequest::Kind::kEraseAll; });
  size_t limit = static_cast<size_t>(all - requests.begin());
  size_t done = 0;
  int status = apply(requests.first(limit), done);
  while (is_lack_of_room(status) && limit > 1) {
    limit /= 2;
    status = apply(requests.first(limit), done);
  }
  if (status == MDB_MAP_FULL) {
    if (status = make_space(); status == 0) status = apply(requests.first(limit), done);
  }
  return status == 0 ? done : fail_one(requests[0], status);
}

// A tree that contradicts itself is thrown away. So is one from which an erasure could not be written, and one that the
// disk failed to take: what a failed sync has lost is not told again.
size_t ReplyIndex::fail_one(ReplyRequest& request, int status) {
  const bool is_erasure = request.kind == ReplyRequest::Kind::kErase;
  note(status, "cannot write");
  if (is_erasure || !is_lack_of_room(status)) {
    must_begin_anew_ = is_erasure || is_damage(status) || status == EIO;
    const std::string error = report_.last_error;
    if (open() != 0) return 0;
    report_.last_error = error;
  }
  request.is_done = is_erasure;
  if (request.kind == ReplyRequest::Kind::kPut) ++report_.refused;
  return 1;
}

int ReplyIndex::apply(std::span<ReplyRequest> requests, size_t& done) {
  done = 0;
  LmdbTransaction transaction;
  if (const int status = environment_.begin(transaction, false)) return status;
  txn_ = transaction.get();
  totals_before_ = totals_;
  report_before_ = report_;
  work_bytes_ = 0;
  is_changed_ = false;
  added_files_.clear();
  dropped_files_.clear();
  bool must_be_durable = false;
  int status = make_room(Shelving::kLarge, 0);
  if (status == kFull) status = 0;
  // Half of the slack may wait to be free after the last commit, and a quarter of it may be changed by this one.
  while (status == 0 && done < requests.size() && work_bytes_ < slack_bytes_ / 4) {
    bool is_finished = true;
    status = apply_one(requests[done], is_finished);
    must_be_durable |= requests[done].kind == ReplyRequest::Kind::kErase && is_finished;
    if (!is_finished) break;
    ++done;
  }
  if (status == 0 && is_changed_) {
    totals_.transaction = mdb_txn_id(txn_);
    status = set(IndexKey::totals(), seal(totals_));
    if (status == 0) status = commit(transaction);
  }
  if (status == 0) status = follow_commit(must_be_durable);
  if (status != 0) {
    roll_back();
    return status;
  }
  for (size_t i = 0; i < done; ++i) requests[i].is_done = true;
  return 0;
}

int ReplyIndex::commit(LmdbTransaction& transaction) {
  int status = transaction.commit();
  // LMDB calls a write that was cut short so, and that is what a disk does that gets full.
  if (status == EIO && free_bytes(environment_.path()) < slack_bytes_) status = ENOSPC;
  if (status != 0) return status;
  has_unsynced_root_ = true;
  ++report_.commits;
  return 0;
}

int ReplyIndex::follow_commit(bool must_be_durable) {
  if (must_be_durable && has_unsynced_root_) {
    if (mdb_env_sync(environment_.get(), 1) != 0) return EIO;
    has_unsynced_root_ = false;
  }
  for (const Content& content : dropped_files_) files_.remove(content);
  return 0;
}

void ReplyIndex::roll_back() {
  totals_ = totals_before_;
  report_ = report_before_;
  for (const Content& content : added_files_) {
    if (!is_wanted(content)) files_.remove(content);
  }
}

// As of the last commit. If that cannot be known it is.
bool ReplyIndex::is_wanted(const Content& content) {
  LmdbTransaction transaction;
  if (environment_.begin(transaction, true) != 0) return true;
  const IndexKey file = IndexKey::file(content);
  MDB_val key = to_val(file.view());
  MDB_val stored;
  return mdb_get(transaction.get(), environment_.database(), &key, &stored) != MDB_NOTFOUND;
}

int ReplyIndex::apply_one(ReplyRequest& request, bool& is_finished) {
  switch (request.kind) {
    case ReplyRequest::Kind::kPut:
      return put(request);
    case ReplyRequest::Kind::kErase:
      return erase(request.names, is_finished);
    case ReplyRequest::Kind::kDiscard:
      return discard(request);
    case ReplyRequest::Kind::kUses:
      return count_uses(request);
    case ReplyRequest::Kind::kEraseAll:
      break;
  }
  return 0;
}

// Evicts what a few puts may take. What a commit frees can be used by the next but one, so there are two.
int ReplyIndex::make_space() {
  for (int round = 0; round < 2; ++round) {
    LmdbTransaction transaction;
    if (const int status = environment_.begin(transaction, false)) return status;
    txn_ = transaction.get();
    totals_before_ = totals_;
    report_before_ = report_;
    added_files_.clear();
    dropped_files_.clear();
    int status = 0;
    for (int i = 0; round == 0 && i < 32 && status == 0; ++i) status = evict(Shelving::kSmall);
    if (status == MDB_NOTFOUND) status = 0;
    totals_.transaction = mdb_txn_id(txn_);
    if (status == 0) status = set(IndexKey::totals(), seal(totals_));
    if (status == 0) status = commit(transaction);
    if (status == 0) status = follow_commit(false);
    if (status != 0) {
      roll_back();
      return status;
    }
  }
  return 0;
}

// One folder a time, so that nothing waits for it long.
void ReplyIndex::sweep() {
  if (folder_to_sweep_ >= ValueFiles::kFolders) return;
  files_.sweep(folder_to_sweep_++, [this](const Content& content) { return is_wanted(content); });
}

void ReplyIndex::update_report() {
  report_.is_serving = is_serving_;
  report_.entries = is_serving_ ? totals_.entries[0] + totals_.entries[1] : 0;
  report_.bytes = 0;
  LmdbTransaction transaction;
  if (!is_serving_ || environment_.begin(transaction, true) != 0) return;
  txn_ = transaction.get();
  uint64_t pages = 0;
  if (pages_in_use(pages) == 0) report_.bytes = pages * environment_.page_bytes() + totals_.file_bytes;
}

}  // namespace mesh::io
