#include "sidecar/io/lmdb_file.h"

#include <lmdb.h>
#include <sodium.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>
#include <utility>

#include "common/base/check.h"

namespace mesh::io {
namespace {

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

// One request may be to blame, and the others could still succeed. When the disk itself fails they could not.
bool is_worth_splitting(int status) { return is_lack_of_room(status) || (status < 0 && status != MDB_PANIC); }

}  // namespace

LmdbFile::LmdbFile(const std::string& path, size_t map_bytes)
    : environment_(path, map_bytes), boot_(current_boot_id()) {}

Result<std::unique_ptr<LmdbFile>> LmdbFile::open(const std::string& path, size_t map_bytes) {
  MESH_CHECK(sodium_init() >= 0);
  std::unique_ptr<LmdbFile> file(new LmdbFile(path, map_bytes));
  int status = file->environment_.take();
  if (status == 0) status = file->environment_.open();
  if (status == 0) status = sync_directory(path);
  if (status == 0) return file;
  Error error = rule_broken(Code::kStorage, "store", "cannot open the store " + path + ": " + file->explain(status));
  error.hint = hint_for(status);
  return Unexpected(std::move(error));
}

std::string LmdbFile::explain(int status) const { return text_for(status, environment_.map_bytes()); }

// An environment that could not write its root refuses everything until it is opened anew.
int LmdbFile::begin(LmdbTransaction& transaction, bool is_read_only) {
  const int status = environment_.begin(transaction, is_read_only);
  if (status != MDB_PANIC) return status;
  if (const int failed = environment_.open()) return failed;
  return environment_.begin(transaction, is_read_only);
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
  LmdbTransaction transaction;
  if (const int status = begin(transaction, true)) return status;
  MDB_cursor* opened = nullptr;
  if (const int status = mdb_cursor_open(transaction.get(), environment_.database(), &opened)) return status;
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
  LmdbTransaction transaction;
  if (const int status = begin(transaction, false)) return status;
  for (const auto& bytes : broken) {
    MDB_val key = to_val(bytes);
    const int status = mdb_del(transaction.get(), environment_.database(), &key, nullptr);
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
  LmdbTransaction transaction;
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
  const int status = mdb_del(transaction, environment_.database(), &key, nullptr);
  return status == MDB_NOTFOUND ? 0 : status;
}

int LmdbFile::put(MDB_txn* transaction, const RecordRequest& request) {
  const RecordHeader header = make_header(request.key, request.value, boot_, request.written_ns);
  MDB_val key = to_val(request.key);
  MDB_val room{sizeof(header) + header.size, nullptr};
  if (const int status = mdb_put(transaction, environment_.database(), &key, &room, MDB_RESERVE)) return status;
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
  const int status = mdb_get(transaction, environment_.database(), &key, &stored);
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
  const size_t wanted = pages_for(range, environment_.page_bytes());
  if (wanted == 0) return 0;
  LmdbTransaction transaction;
  if (const int status = begin(transaction, true)) return status;
  MDB_envinfo info;
  if (const int status = mdb_env_info(environment_.get(), &info)) return status;
  const size_t limit = environment_.map_bytes() / environment_.page_bytes();
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
  LmdbTransaction transaction;
  if (const int status = begin(transaction, false)) return status;
  MDB_val key = to_val(as_bytes(kStepKey));
  MDB_val value = to_val(ByteView(reinterpret_cast<const uint8_t*>(&report_.commits), sizeof(report_.commits)));
  if (const int status = mdb_put(transaction.get(), environment_.database(), &key, &value, 0)) return status;
  if (const int status = transaction.commit()) return status;
  ++report_.commits;
  has_fresh_free_pages_ = false;
  return 0;
}

}  // namespace mesh::io
