// Within one transaction: how entries, their values and their names come and go together.
#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>

#include "sidecar/io/reply_index.h"

namespace mesh::io {
namespace {

// Pages that a change may copy, since others share them.
constexpr uint64_t kChangeBytes = 8 << 10;
// So many go for one that comes; if that is not enough it is not stored.
constexpr int kEvictionsMax = 256;
// Neighbours in the order of hashes are strangers otherwise, and lie on one page or two.
constexpr int kSample = 16;
// More uses than that say nothing more.
constexpr uint32_t kUsesMax = 16;
// Of LMDB's file.
constexpr size_t kPageHeaderBytes = 16;
constexpr size_t kNodeHeaderBytes = 8;
constexpr int kOverflowFlag = 0x04;
constexpr int kDirtyFlag = 0x10;

constexpr std::array kShelvings = {Shelving::kSmall, Shelving::kLarge};

using Cursor = std::unique_ptr<MDB_cursor, decltype(&mdb_cursor_close)>;

int open_cursor(MDB_txn* transaction, MDB_dbi database, Cursor& cursor) {
  MDB_cursor* opened = nullptr;
  const int status = mdb_cursor_open(transaction, database, &opened);
  cursor.reset(opened);
  return status;
}

bool begins_with(const MDB_val& key, ByteView prefix) {
  return key.mv_size >= prefix.size() && std::memcmp(key.mv_data, prefix.data(), prefix.size()) == 0;
}

}  // namespace

int ReplyIndex::get(const IndexKey& key, ByteView& value) {
  MDB_val wanted = to_val(key.view());
  MDB_val stored;
  const int status = mdb_get(txn_, environment_.database(), &wanted, &stored);
  if (status == 0) value = to_view(stored);
  return status;
}

int ReplyIndex::set(const IndexKey& key, ByteView value) {
  MDB_val at = to_val(key.view());
  MDB_val bytes = to_val(value);
  is_changed_ = true;
  return mdb_put(txn_, environment_.database(), &at, &bytes, 0);
}

int ReplyIndex::drop(const IndexKey& key) {
  MDB_val at = to_val(key.view());
  is_changed_ = true;
  const int status = mdb_del(txn_, environment_.database(), &at, nullptr);
  return status == MDB_NOTFOUND ? 0 : status;
}

int ReplyIndex::add_name(const IndexKey& key) {
  MDB_val at = to_val(key.view());
  MDB_val nothing{};
  is_changed_ = true;
  const int status = mdb_put(txn_, environment_.database(), &at, &nothing, MDB_NOOVERWRITE);
  if (status == 0) totals_.name_sum += name_sum(key.view());
  return status == MDB_KEYEXIST ? 0 : status;
}

int ReplyIndex::drop_name(const IndexKey& key) {
  MDB_val at = to_val(key.view());
  is_changed_ = true;
  const int status = mdb_del(txn_, environment_.database(), &at, nullptr);
  if (status == 0) totals_.name_sum -= name_sum(key.view());
  return status == MDB_NOTFOUND ? 0 : status;
}

// An entry that is there but broken is told as nothing under its shelving; one that is not there as MDB_NOTFOUND.
int ReplyIndex::find(const ReplyHash& hash, Shelving& shelving, std::optional<Entry>& entry) {
  for (const Shelving place : kShelvings) {
    const IndexKey key = IndexKey::entry(place, hash);
    ByteView stored;
    const int status = get(key, stored);
    if (status == MDB_NOTFOUND) continue;
    if (status != 0) return status;
    shelving = place;
    entry = unpack(key, stored);
    return 0;
  }
  return MDB_NOTFOUND;
}

int ReplyIndex::put(ReplyRequest& request) {
  work_bytes_ += kChangeBytes;
  Entry entry{.header = request.terms, .names = request.names};
  entry.header.size = request.value.size();
  entry.header.uses = 1;
  Shelving before = Shelving::kSmall;
  std::optional<Entry> old;
  int status = find(request.hash, before, old);
  if (status == 0) {
    if (old) entry.header.uses = std::min(old->header.uses + 1, kUsesMax);
    status = remove(before, request.hash, old);
  }
  if (status != 0 && status != MDB_NOTFOUND) return status;
  bool is_refused = false;
  const bool is_small = request.value.size() <= kSmallBytesMax;
  const Shelving shelving = is_small ? Shelving::kSmall : Shelving::kLarge;
  entry.header.content = content_of(request.value.view());
  status = make_room(shelving, request.value.size());
  if (status == 0 && !is_small) {
    status = files_.write(entry.header.content, request.value.view());
    added_files_.insert(entry.header.content);
    if (status != 0) is_refused = true;
  }
  if (is_refused || status == kFull) {  // the others of the batch are not to blame
    note(status, "cannot store a reply");
    ++report_.refused;
    return 0;
  }
  if (status == 0) status = put_value(request, entry, shelving);
  if (status != 0) return status;
  // It ages from now on.
  entry.header.age = totals_.age[static_cast<size_t>(shelving)];
  const IndexKey key = IndexKey::entry(shelving, request.hash);
  if (status = set(key, pack(key, entry)); status != 0) return status;
  ++totals_.entries[static_cast<size_t>(shelving)];
  ++report_.puts;
  return put_names(request.hash, entry.names);
}

int ReplyIndex::put_value(const ReplyRequest& request, const Entry& entry, Shelving shelving) {
  if (shelving == Shelving::kSmall) {
    work_bytes_ += request.value.size();
    totals_.small_bytes += request.value.size();
    return set(IndexKey::value(request.hash), request.value.view());
  }
  const Content& content = entry.header.content;
  dropped_files_.erase(content);
  FileRecord record{.size = request.value.size(), .references = 0};
  const IndexKey key = IndexKey::file(content);
  ByteView stored;
  const int status = get(key, stored);
  if (status != 0 && status != MDB_NOTFOUND) return status;
  if (status == 0 && stored.size() == sizeof(record)) std::memcpy(&record, stored.data(), sizeof(record));
  if (record.references++ == 0) totals_.file_bytes += on_disk_bytes(record.size);
  return set(key, ByteView(reinterpret_cast<const uint8_t*>(&record), sizeof(record)));
}

int ReplyIndex::put_names(const ReplyHash& hash, const std::vector<uint64_t>& names) {
  for (const uint64_t name : names) {
    work_bytes_ += kChangeBytes / 2;
    if (const int status = add_name(IndexKey::name(name, hash))) return status;
  }
  return 0;
}

int ReplyIndex::pages_in_use(uint64_t& pages) {
  pages = 2;
  for (const MDB_dbi database : {MDB_dbi{0}, environment_.database()}) {
    MDB_stat stat;
    if (const int status = mdb_stat(txn_, database, &stat)) return status;
    pages += stat.ms_branch_pages + stat.ms_leaf_pages + stat.ms_overflow_pages;
  }
  return 0;
}

// What it has grown to, and may grow by in this batch.
uint64_t ReplyIndex::index_file_bytes() {
  MDB_envinfo info;
  mdb_env_info(environment_.get(), &info);
  const uint64_t bytes = (info.me_last_pgno + 1) * environment_.page_bytes() + slack_bytes_ / 2;
  return std::min<uint64_t>(bytes, environment_.file_bytes_max());
}

// 0 when a value of that size fits into the budget, after others have gone for it; kFull when it does not.
int ReplyIndex::make_room(Shelving shelving, uint64_t size) {
  for (int i = 0; i <= kEvictionsMax; ++i) {
    if (shelving == Shelving::kSmall) {
      uint64_t pages = 0;
      if (const int status = pages_in_use(pages)) return status;
      const uint64_t page_bytes = environment_.page_bytes();
      if (pages * page_bytes + size + 4 * page_bytes <= small_bytes_max_) return 0;
    } else if (index_file_bytes() + totals_.file_bytes + on_disk_bytes(size) <= budget_bytes_) {
      return 0;
    }
    const int status = evict(shelving);
    if (status != 0) return status == MDB_NOTFOUND ? kFull : status;
  }
  return kFull;
}

int ReplyIndex::evict(Shelving shelving) {
  ReplyHash hash;
  std::optional<Entry> entry;
  if (const int status = pick_victim(shelving, hash, entry)) return status;
  if (entry && !is_expired(entry->header, wall_ms())) {
    // In steps, for the least of a sample may be dear by bad luck, and the store would be old at once.
    double& age = totals_.age[static_cast<size_t>(shelving)];
    age += std::max(0.0, worth_of(entry->header) - age) / kSample;
  }
  ++(entry ? report_.evicted : report_.damaged);
  return remove(shelving, hash, entry);
}

// The least worth of a few, which is good enough: of 16 it is among the worst tenth of all four times in five.
int ReplyIndex::pick_victim(Shelving shelving, ReplyHash& hash, std::optional<Entry>& entry) {
  Cursor cursor(nullptr, mdb_cursor_close);
  if (const int status = open_cursor(txn_, environment_.database(), cursor)) return status;
  const IndexKey start = IndexKey::entry(shelving, {prng_.next(), prng_.next()});
  const uint8_t first_byte = start.view()[0];
  MDB_val key = to_val(start.view());
  MDB_val stored;
  const int64_t now_ms = wall_ms();
  double least = 0;
  int seen = 0;
  bool is_around = false;
  int status = mdb_cursor_get(cursor.get(), &key, &stored, MDB_SET_RANGE);
  while (seen < kSample) {
    if (status == MDB_NOTFOUND || (status == 0 && *static_cast<uint8_t*>(key.mv_data) != first_byte)) {
      if (std::exchange(is_around, true)) break;
      key = to_val(ByteView(&first_byte, 1));
      status = mdb_cursor_get(cursor.get(), &key, &stored, MDB_SET_RANGE);
      continue;
    }
    if (status != 0) return status;
    const ReplyHash found = hash_at_end(to_view(key));
    auto candidate = unpack(IndexKey::entry(shelving, found), to_view(stored));
    const bool goes_at_once = !candidate || is_expired(candidate->header, now_ms);
    const double worth = goes_at_once ? -1 : worth_of(candidate->header);
    if (seen++ == 0 || worth < least) {
      least = worth;
      hash = found;
      entry = std::move(candidate);
    }
    if (goes_at_once) break;
    status = mdb_cursor_get(cursor.get(), &key, &stored, MDB_NEXT);
  }
  return seen == 0 ? MDB_NOTFOUND : 0;
}

// A broken entry does not say which names it has: those are dropped when somebody erases by them. Nor which file: that
// one is lost to the budget until the store begins anew.
int ReplyIndex::remove(Shelving shelving, const ReplyHash& hash, const std::optional<Entry>& entry) {
  work_bytes_ += kChangeBytes;
  if (entry) {
    for (const uint64_t name : entry->names) {
      work_bytes_ += kChangeBytes / 2;
      if (const int status = drop_name(IndexKey::name(name, hash))) return status;
    }
  }
  int status = 0;
  if (shelving == Shelving::kSmall) status = remove_value(hash);
  if (shelving == Shelving::kLarge && entry) status = release_file(entry->header.content);
  if (status != 0) return status;
  --totals_.entries[static_cast<size_t>(shelving)];
  return drop(IndexKey::entry(shelving, hash));
}

// LMDB believes what the first page of a large value says of how many it has, and check_tree() has not looked there.
int ReplyIndex::remove_value(const ReplyHash& hash) {
  const IndexKey key = IndexKey::value(hash);
  ByteView value;
  const int status = get(key, value);
  if (status != 0) return status == MDB_NOTFOUND ? 0 : status;
  const size_t page_bytes = environment_.page_bytes();
  const size_t node_bytes = kNodeHeaderBytes + key.view().size() + value.size();
  if (node_bytes > (page_bytes - kPageHeaderBytes) / 2 - 2) {
    std::array<uint8_t, kPageHeaderBytes> header;
    if (!copy_mapped({value.data() - kPageHeaderBytes, kPageHeaderBytes}, header.data())) return EIO;
    uint16_t flags = 0;
    uint32_t pages = 0;
    std::memcpy(&flags, header.data() + 10, sizeof(flags));
    std::memcpy(&pages, header.data() + 12, sizeof(pages));
    const uint64_t expected = (kPageHeaderBytes - 1 + value.size()) / page_bytes + 1;
    if ((flags & ~kDirtyFlag) != kOverflowFlag || pages != expected) return MDB_CORRUPTED;
  }
  totals_.small_bytes -= std::min<uint64_t>(totals_.small_bytes, value.size());
  return drop(key);
}

int ReplyIndex::release_file(const Content& content) {
  const IndexKey key = IndexKey::file(content);
  ByteView stored;
  FileRecord record;
  const int status = get(key, stored);
  if (status != 0) return status == MDB_NOTFOUND ? 0 : status;
  if (stored.size() != sizeof(record)) return MDB_CORRUPTED;
  std::memcpy(&record, stored.data(), sizeof(record));
  if (record.references > 1) {
    --record.references;
    return set(key, ByteView(reinterpret_cast<const uint8_t*>(&record), sizeof(record)));
  }
  totals_.file_bytes -= std::min(totals_.file_bytes, on_disk_bytes(record.size));
  dropped_files_.insert(content);
  return drop(key);
}

int ReplyIndex::erase(std::span<const uint64_t> names, bool& is_finished) {
  for (const uint64_t name : names) {
    const int status = erase_name(name, is_finished);
    if (status != 0 || !is_finished) return status;
  }
  return 0;
}

int ReplyIndex::erase_name(uint64_t name, bool& is_finished) {
  const IndexKey prefix = IndexKey::name(name);
  while (true) {
    Cursor cursor(nullptr, mdb_cursor_close);
    if (const int status = open_cursor(txn_, environment_.database(), cursor)) return status;
    MDB_val key = to_val(prefix.view());
    MDB_val stored;
    int status = mdb_cursor_get(cursor.get(), &key, &stored, MDB_SET_RANGE);
    if (status == MDB_NOTFOUND || (status == 0 && !begins_with(key, prefix.view()))) return 0;
    if (status != 0) return status;
    const ReplyHash hash = hash_at_end(to_view(key));
    cursor.reset();
    // The rest in another transaction: so many changes are not undone together, nor do they fill memory.
    is_finished = work_bytes_ < slack_bytes_ / 4;
    if (!is_finished) return 0;
    Shelving shelving = Shelving::kSmall;
    std::optional<Entry> entry;
    status = find(hash, shelving, entry);
    if (status == 0) status = remove(shelving, hash, entry);
    if (status != 0 && status != MDB_NOTFOUND) return status;
    work_bytes_ += kChangeBytes / 2;
    if (status = drop_name(IndexKey::name(name, hash)); status != 0) return status;
  }
}

// It may have been replaced since somebody found it broken.
int ReplyIndex::discard(const ReplyRequest& request) {
  Shelving shelving = Shelving::kSmall;
  std::optional<Entry> entry;
  const int status = find(request.hash, shelving, entry);
  if (status != 0) return status == MDB_NOTFOUND ? 0 : status;
  if (entry && entry->header.content != request.terms.content) return 0;
  if (request.is_damaged) ++report_.damaged;
  return remove(shelving, request.hash, entry);
}

int ReplyIndex::count_uses(const ReplyRequest& request) {
  Shelving shelving = Shelving::kSmall;
  std::optional<Entry> entry;
  const int status = find(request.hash, shelving, entry);
  if (status != 0) return status == MDB_NOTFOUND ? 0 : status;
  if (!entry) return 0;
  work_bytes_ += kChangeBytes / 2;
  entry->header.uses = std::min(entry->header.uses + request.uses, kUsesMax);
  entry->header.age = totals_.age[static_cast<size_t>(shelving)];
  const IndexKey key = IndexKey::entry(shelving, request.hash);
  return set(key, pack(key, *entry));
}

}  // namespace mesh::io
