#include <algorithm>
#include <array>
#include <cerrno>
#include <new>
#include <utility>

#include "sidecar/io/reply_index.h"

namespace mesh::io {
namespace {

int copy_value(ByteView stored, const EntryHeader& header, Slice& value) {
  if (stored.size() != header.size) return EBADMSG;
  if (!stored.empty()) {
    BlockRef block = Block::allocate(stored.size());
    if (!copy_mapped(stored, block->data())) return EIO;
    const uint8_t* data = block->data();
    value = Slice(std::move(block), data, stored.size());
  }
  // Only now: what is given away is what was judged.
  return content_of(value.view()) == header.content ? 0 : EBADMSG;
}

// Whoever has no descriptor or memory left may have one later.
bool is_passing(int status) { return status == EMFILE || status == ENFILE || status == ENOMEM; }

}  // namespace

// Also while a batch is under way: LMDB shows it the last commit.
void ReplyIndex::load(ReplyLoad& load) noexcept {
  const std::shared_lock lock(closing_);
  load.reply.reset();
  load.is_damaged = load.is_expired = false;
  if (!is_serving_) return;
  try {
    LmdbTransaction transaction;
    if (environment_.begin(transaction, true) != 0) return;
    std::optional<Entry> entry;
    Slice value;
    int status = find_and_copy(transaction.get(), load.hash, entry, value);
    if (status == MDB_NOTFOUND) return;
    if (entry) load.content = entry->header.content;
    const int64_t now_ms = wall_ms();
    load.is_expired = entry && is_expired(entry->header, now_ms);
    if (load.is_expired) return;
    if (status == 0 && entry->header.size > kSmallBytesMax) {
      status = files_.read(entry->header.content, entry->header.size, value);
    }
    load.is_damaged = status != 0 && !is_passing(status);
    if (status != 0) return;
    load.reply = StoredReply{.value = std::move(value),
                             .age_ms = std::max<int64_t>(0, now_ms - entry->header.written_ms),
                             .left_ms = entry->header.until_ms - now_ms};
  } catch (const std::bad_alloc&) {
    load.reply.reset();
  }
}

// The value only of a small one. MDB_NOTFOUND where there is no entry; no entry where it is broken.
int ReplyIndex::find_and_copy(MDB_txn* transaction, const ReplyHash& hash, std::optional<Entry>& entry, Slice& value) {
  const auto read = [&](const IndexKey& key, MDB_val& stored) {
    MDB_val wanted = to_val(key.view());
    return mdb_get(transaction, environment_.database(), &wanted, &stored);
  };
  for (const Shelving shelving : {Shelving::kSmall, Shelving::kLarge}) {
    const IndexKey key = IndexKey::entry(shelving, hash);
    MDB_val stored;
    const int status = read(key, stored);
    if (status == MDB_NOTFOUND) continue;
    if (status != 0) return status;
    entry = unpack(key, to_view(stored));
    if (!entry) return EBADMSG;
    if (shelving == Shelving::kLarge) return 0;
    return read(IndexKey::value(hash), stored) == 0 ? copy_value(to_view(stored), entry->header, value) : EBADMSG;
  }
  return MDB_NOTFOUND;
}

}  // namespace mesh::io
