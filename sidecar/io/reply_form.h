// How a reply lies in the store: what its keys in the index look like, and what stands there beside the value.
//
// One sorted tree holds it all, told apart by the first byte of the key:
//   a              totals of the store
//   s <hash>       entry of a small reply: header and names      l <hash>   the same of one in a file
//   v <hash>       the bytes of a small reply
//   n <name><hash> nothing: an entry that carries this name
//   f <content>    how many entries share this file
// A file is named by its content: XXH3-128 in hex.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "common/base/reply_store.h"
#include "common/base/slice.h"

namespace mesh::io {

// XXH3-128 of some bytes.
struct Content {
  uint64_t low = 0;
  uint64_t high = 0;
  friend auto operator<=>(const Content&, const Content&) = default;
};
Content content_of(ByteView bytes);

// What is larger lies in a file.
inline constexpr size_t kSmallBytesMax = 64 << 10;

enum class Shelving : uint8_t { kSmall, kLarge };

class IndexKey {
 public:
  static IndexKey totals() { return IndexKey('a'); }
  static IndexKey entry(Shelving shelving, const ReplyHash& hash) {
    return IndexKey(shelving == Shelving::kSmall ? 's' : 'l').add(hash.low).add(hash.high);
  }
  static IndexKey value(const ReplyHash& hash) { return IndexKey('v').add(hash.low).add(hash.high); }
  static IndexKey name(uint64_t name) { return IndexKey('n').add(name); }
  static IndexKey name(uint64_t name, const ReplyHash& hash) {
    return IndexKey('n').add(name).add(hash.low).add(hash.high);
  }
  static IndexKey file(const Content& content) { return IndexKey('f').add(content.low).add(content.high); }

  ByteView view() const& { return {bytes_.data(), size_}; }
  ByteView view() const&& = delete;

 private:
  explicit IndexKey(char kind) { bytes_[0] = static_cast<uint8_t>(kind); }
  IndexKey& add(uint64_t number);

  std::array<uint8_t, 25> bytes_{};
  size_t size_ = 1;
};
// Of a name key; zero for the others. Their sum shows a name that was lost, by which nothing would be erased any more.
uint64_t name_sum(ByteView key);
// The hash at the end of such a key.
ReplyHash hash_at_end(ByteView key);

// Numbers as they lie on disk, in the host's byte order: a store does not travel.
struct EntryHeader {
  Content content;
  uint64_t size;       // of the value
  int64_t written_ms;  // wall clock, when the reply was made; a clock that stands before it makes it expired
  int64_t put_ms;      // wall clock, when it was put
  int64_t until_ms;    // wall clock
  int64_t cost_us;
  double age;  // of the store when it was last used; see worth_of()
  uint32_t uses;
  uint32_t names_count;  // behind it, 8 bytes each
  uint64_t check;        // of the key, all above and the names
};
static_assert(sizeof(EntryHeader) == 80);

struct Entry {
  EntryHeader header{};
  std::vector<uint64_t> names;
};
std::vector<uint8_t> pack(const IndexKey& key, Entry entry);
// Nothing if it is broken.
std::optional<Entry> unpack(const IndexKey& key, ByteView stored);

bool is_expired(const EntryHeader& header, int64_t now_ms);
// GreedyDual-Size-Frequency, as in the memory tier: what a byte of it saves, on top of how far the store had aged when
// it was last used. The store ages towards the worth of what it evicts, so that what nobody asks for any more goes in
// the end, however dear it was.
double worth_of(const EntryHeader& header);

// As they lie on disk; written with every commit.
struct Totals {
  uint64_t form;         // of this store; another one is not read
  uint64_t transaction;  // of the commit that wrote it
  uint64_t entries[2];   // by Shelving
  uint64_t file_bytes;   // whole blocks
  uint64_t small_bytes;  // of values
  double age[2];
  uint64_t name_sum;  // of all keys
  uint64_t check;
};
ByteView seal(Totals& totals);
std::optional<Totals> read_totals(ByteView stored);

struct FileRecord {
  uint64_t size;
  uint64_t references;
};

// The wall clock: the only one that goes on over a reboot.
int64_t wall_ms();

}  // namespace mesh::io
