// One LMDB environment in a directory of our own, which nobody else may have open. Private to sidecar/io.
//
// LMDB keeps one sorted tree in one file and never overwrites what the last commit can see: a process may die at any
// moment, and the next one finds the last commit. It is mapped for reading only, so a full disk is an error and no
// SIGBUS.
#pragma once

#include <lmdb.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "common/base/slice.h"

namespace mesh::io {

// Neither an errno nor LMDB's.
inline constexpr int kTakenByAnother = -1;
inline constexpr int kFull = -2;
inline constexpr int kForeign = -3;  // the directory is another user's

bool is_lack_of_room(int status);
// The status of such a failure for people, and what to do about it.
std::string text_for(int status, size_t map_bytes);
std::string hint_for(int status);
int sync_directory(const std::string& path);
// From a mapped file; false where the disk behind it fails or it was cut, which would be a SIGBUS otherwise.
bool copy_mapped(ByteView from, uint8_t* to);

inline MDB_val to_val(ByteView bytes) { return {bytes.size(), const_cast<uint8_t*>(bytes.data())}; }
inline ByteView to_view(const MDB_val& val) { return {static_cast<const uint8_t*>(val.mv_data), val.mv_size}; }

// Aborts unless it was committed.
class LmdbTransaction {
 public:
  LmdbTransaction() = default;
  ~LmdbTransaction() {
    if (txn_ != nullptr) mdb_txn_abort(txn_);
  }
  LmdbTransaction(const LmdbTransaction&) = delete;
  LmdbTransaction& operator=(const LmdbTransaction&) = delete;

  MDB_txn* get() const { return txn_; }
  int begin(MDB_env* env, unsigned flags) { return mdb_txn_begin(env, nullptr, flags, &txn_); }
  int commit() { return mdb_txn_commit(std::exchange(txn_, nullptr)); }

 private:
  MDB_txn* txn_ = nullptr;
};

// Statuses are 0, an errno, LMDB's or ours.
class LmdbEnvironment {
 public:
  // The files take a little more than `map_bytes` at most. `flags` are LMDB's for opening.
  LmdbEnvironment(std::string path, size_t map_bytes, unsigned flags = 0)
      : path_(std::move(path)), map_bytes_(map_bytes), flags_(flags) {}
  ~LmdbEnvironment();
  LmdbEnvironment(const LmdbEnvironment&) = delete;
  LmdbEnvironment& operator=(const LmdbEnvironment&) = delete;

  // Makes the directory where there is none and keeps other processes out, for as long as this lives.
  int take();
  // Opens it, anew if it was open. No transaction may live.
  int open();
  void close();
  // MDB_PANIC where it is not open, and from when a root could not be written until it is opened anew.
  int begin(LmdbTransaction& transaction, bool is_read_only);

  const std::string& path() const { return path_; }
  size_t map_bytes() const { return map_bytes_; }
  size_t file_bytes_max() const;
  size_t page_bytes() const { return page_bytes_; }
  MDB_env* get() const { return env_; }
  MDB_dbi database() const { return dbi_; }

 private:
  int lock();
  int open_database();
  int cover_last_page();

  std::string path_;
  size_t map_bytes_;
  unsigned flags_;
  size_t page_bytes_ = 4096;
  int lock_fd_ = -1;
  MDB_env* env_ = nullptr;
  MDB_dbi dbi_ = 0;
};

}  // namespace mesh::io
