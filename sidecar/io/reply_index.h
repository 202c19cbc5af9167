// Replies in an LMDB environment and in files beside it. Private to sidecar/io, except for tests.
//
// What a commit needs to be safe: its pages are synced before the root that names them is written (MDB_NOMETASYNC),
// so a power cut finds the last root or the one before, and both trees are whole. That is enough for a put. An erasure
// also syncs the root before it is reported. Where that fails the whole store is thrown away, for what was erased must
// not come back.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <set>
#include <shared_mutex>
#include <span>
#include <string>
#include <vector>

#include "common/base/prng.h"
#include "common/base/reply_store.h"
#include "sidecar/io/lmdb_environment.h"
#include "sidecar/io/reply_form.h"
#include "sidecar/io/value_files.h"

namespace mesh::io {

// Something to be written.
struct ReplyRequest {
  enum class Kind : uint8_t { kPut, kErase, kEraseAll, kDiscard, kUses };
  Kind kind;
  uint64_t ticket = 0;
  ReplyHash hash{};
  Slice value{};
  std::vector<uint64_t> names{};
  EntryHeader terms{};      // of a put: cost and times
  uint32_t uses = 0;        // since they were written last
  bool is_damaged = false;  // what is discarded; or else its time is over
  bool is_done = false;
};

// Something to be read, with room for the answer.
struct ReplyLoad {
  uint64_t ticket = 0;
  ReplyHash hash{};
  int tries = 0;

  std::optional<StoredReply> reply{};
  // It lies there and is good for nothing.
  bool is_damaged = false;
  bool is_expired = false;
  Content content{};  // of the entry that was found
};

class ReplyIndex {
 public:
  struct Report {
    uint64_t entries = 0;
    uint64_t bytes = 0;
    uint64_t puts = 0;
    uint64_t evicted = 0;
    uint64_t damaged = 0;
    uint64_t refused = 0;
    uint64_t begun_anew = 0;
    uint64_t commits = 0;
    bool is_serving = false;
    std::string last_error = {};
  };

  // Opens nothing. At least kBudgetBytesMin are used.
  ReplyIndex(const std::string& path, uint64_t budget_bytes, int64_t retry_ms);
  // Everything is on disk then, also after a power cut.
  ~ReplyIndex();
  ReplyIndex(const ReplyIndex&) = delete;
  ReplyIndex& operator=(const ReplyIndex&) = delete;

  static constexpr uint64_t kBudgetBytesMin = 8 << 20;

  // By one thread at a time. Opens the store if need be, does all in order and marks the erasures that are done. Those
  // that are not must be asked again, before anything that was asked later. Copies no slice.
  void run(std::span<ReplyRequest> requests) noexcept;
  // There is something to be cleaned up: run() does a part of it each time.
  bool has_more() const { return is_serving_ && folder_to_sweep_ < ValueFiles::kFolders; }
  const Report& report() const { return report_; }
  uint64_t budget_bytes() const { return budget_bytes_; }

  // By any thread, at any time.
  void load(ReplyLoad& load) noexcept;

 private:
  // reply_index.cc: opening, and what a batch does when something fails
  int open();
  int open_files();
  int open_once();
  void close(int status);
  int begin_anew();
  bool is_removed() const;
  void note(int status, std::string_view what);
  size_t run_some(std::span<ReplyRequest> requests);
  int apply(std::span<ReplyRequest> requests, size_t& done);
  int apply_one(ReplyRequest& request, bool& is_finished);
  int commit(LmdbTransaction& transaction);
  int follow_commit(bool must_be_durable);
  void roll_back();
  size_t fail_one(ReplyRequest& request, int status);
  int make_space();
  bool is_wanted(const Content& content);
  void sweep();
  void update_report();

  // reply_entries.cc: within the transaction of a batch
  int put(ReplyRequest& request);
  int put_value(const ReplyRequest& request, const Entry& entry, Shelving shelving);
  int put_names(const ReplyHash& hash, const std::vector<uint64_t>& names);
  int make_room(Shelving shelving, uint64_t size);
  int erase(std::span<const uint64_t> names, bool& is_finished);
  int erase_name(uint64_t name, bool& is_finished);
  int discard(const ReplyRequest& request);
  int count_uses(const ReplyRequest& request);
  int find(const ReplyHash& hash, Shelving& shelving, std::optional<Entry>& entry);
  int remove(Shelving shelving, const ReplyHash& hash, const std::optional<Entry>& entry);
  int remove_value(const ReplyHash& hash);
  int release_file(const Content& content);
  int evict(Shelving shelving);
  int pick_victim(Shelving shelving, ReplyHash& hash, std::optional<Entry>& entry);
  int pages_in_use(uint64_t& pages);
  uint64_t index_file_bytes();
  int get(const IndexKey& key, ByteView& value);
  int set(const IndexKey& key, ByteView value);
  int drop(const IndexKey& key);
  int add_name(const IndexKey& key);
  int drop_name(const IndexKey& key);

  // reply_load.cc
  int find_and_copy(MDB_txn* transaction, const ReplyHash& hash, std::optional<Entry>& entry, Slice& value);

  uint64_t budget_bytes_;
  uint64_t slack_bytes_;  // what the index may grow beyond its limit while pages wait to be free
  uint64_t small_bytes_max_;
  int64_t retry_ms_;
  LmdbEnvironment environment_;
  ValueFiles files_;
  Prng prng_;
  Report report_;
  bool is_serving_ = false;
  bool must_begin_anew_ = false;
  int64_t retry_at_ms_ = 0;  // steady
  int folder_to_sweep_ = 0;
  bool has_unsynced_root_ = true;

  // Of the batch under way.
  MDB_txn* txn_ = nullptr;
  Totals totals_{};
  Totals totals_before_{};
  Report report_before_;
  uint64_t work_bytes_ = 0;
  bool is_changed_ = false;
  std::set<Content> added_files_;
  std::set<Content> dropped_files_;

  // Held by readers; whoever closes the environment waits for them.
  mutable std::shared_mutex closing_;
};

}  // namespace mesh::io
