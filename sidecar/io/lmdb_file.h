// Records in an LMDB environment, written synchronously. Private to sidecar/io, except for tests.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "common/base/record_store.h"
#include "common/base/result.h"
#include "sidecar/io/lmdb_environment.h"
#include "sidecar/io/record_form.h"

namespace mesh::io {

// Something asked of the store, with room for the answer.
struct RecordRequest {
  enum class Kind : uint8_t { kPut, kLoad, kErase };
  Kind kind;
  uint64_t ticket = 0;
  RecordKey key{};
  std::vector<Slice> value = {};
  int64_t written_ns = 0;

  bool is_stored = false;
  std::optional<Slice> loaded = {};
};

// What happened since the file was opened.
struct StoreReport {
  uint64_t commits = 0;
  uint64_t failed_puts = 0;
  uint64_t broken_records = 0;  // as often as one was met
  int status = 0;               // errno or LMDB's code or ours, of what failed last in the last run; 0 if nothing did
};

// Used by one thread at a time.
class LmdbFile {
 public:
  // Makes the directory and the files where there are none. A process that has them open keeps others out.
  static Result<std::unique_ptr<LmdbFile>> open(const std::string& path, size_t map_bytes);
  LmdbFile(const LmdbFile&) = delete;
  LmdbFile& operator=(const LmdbFile&) = delete;

  // Every record whose header is whole; the others are erased.
  std::vector<RecordStore::Found> recover(size_t head_bytes);
  // Does all of it in order and notes the answers. One commit, unless there is no room for everything. Copies no slice,
  // so it may run on a thread that does not own them.
  void run(std::span<RecordRequest> requests) noexcept;
  const StoreReport& report() const { return report_; }
  // The report's status for people, with what to do; empty if it is 0.
  std::string explain(int status) const;

 private:
  LmdbFile(const std::string& path, size_t map_bytes);
  int begin(LmdbTransaction& transaction, bool is_read_only);
  int walk(size_t head_bytes, std::vector<RecordStore::Found>& found, std::vector<std::vector<uint8_t>>& broken);
  int erase_broken(const std::vector<std::vector<uint8_t>>& broken);
  void run_range(std::span<RecordRequest> range);
  void fail_range(std::span<RecordRequest> range, int status);
  int apply(std::span<RecordRequest> range);
  int apply_one(MDB_txn* transaction, RecordRequest& request);
  int put(MDB_txn* transaction, const RecordRequest& request);
  int load(MDB_txn* transaction, RecordRequest& request);
  int check_room(std::span<const RecordRequest> range);
  int age_freed_pages();

  LmdbEnvironment environment_;
  BootId boot_;
  bool has_fresh_free_pages_ = true;  // there was a commit since age_freed_pages()
  StoreReport report_;
};

}  // namespace mesh::io
