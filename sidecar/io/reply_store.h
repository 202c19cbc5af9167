// A ReplyStore on LMDB and files: libuv's work pool reads and writes while the loop goes on.
//
// One ferry writes, as in LmdbStore: what is asked while it is away goes together with the next crossing. Two small
// boats read beside it, since whoever reads need not wait for what is being written.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "common/base/reply_store.h"
#include "sidecar/io/reply_index.h"
#include "sidecar/io/turn_work.h"

struct uv_timer_s;

namespace mesh::io {

// Loop::open_reply_store() makes it; the loop must outlive it.
class LmdbReplyStore final : public ReplyStore, private TurnWork {
 public:
  LmdbReplyStore(StoreShared& shared, const std::string& path, uint64_t budget_bytes, int64_t retry_ms);
  // Blocks until all that was put and erased is on disk. Nobody is told any more. May be called within the observer's
  // calls.
  ~LmdbReplyStore() override;
  LmdbReplyStore(const LmdbReplyStore&) = delete;
  LmdbReplyStore& operator=(const LmdbReplyStore&) = delete;

  void set_observer(ReplyStoreObserver* observer) override { observer_ = observer; }
  void load(uint64_t ticket, const ReplyHash& hash) override;
  void put(const ReplyHash& hash, Slice value, const Terms& terms) override;
  void erase(uint64_t ticket, std::span<const uint64_t> names) override;
  void erase_all(uint64_t ticket) override;
  const Stats& stats() const override { return stats_; }

  // Transactions that were written.
  uint64_t commits() const { return commits_; }

 private:
  struct WriteJob;
  struct ReadJob;
  struct HashOfReply {
    size_t operator()(const ReplyHash& hash) const { return hash.low; }
  };
  static constexpr size_t kReadersMax = 2;

  void submit() override;
  void submit_later();
  void ask(ReplyRequest request);
  void begin_write();
  void begin_read(ReadJob*& slot);
  void finish_write(WriteJob& job);
  void finish_read(ReadJob& job);
  bool must_read_again(const ReadJob& job, const ReplyLoad& load) const;
  void note_load(ReplyLoad& load);
  void take_report(const ReplyIndex::Report& report);
  void add_uses(std::vector<ReplyRequest>& requests);
  void arm_retry();

  StoreShared& shared_;
  std::unique_ptr<ReplyIndex> index_;
  int64_t retry_ms_;
  ReplyStoreObserver* observer_ = nullptr;
  Stats stats_;
  uint64_t commits_ = 0;
  uint64_t refused_in_queue_ = 0;

  std::deque<ReplyRequest> waiting_;
  uint64_t waiting_bytes_ = 0;
  std::vector<ReplyLoad> loads_;
  std::unordered_map<ReplyHash, uint32_t, HashOfReply> uses_;
  uint64_t erasures_reported_ = 0;

  bool is_to_be_submitted_ = false;
  bool must_write_ = true;         // even if nobody asks: to open it, or to clean up
  WriteJob* write_job_ = nullptr;  // these free themselves
  std::array<ReadJob*, kReadersMax> read_jobs_{};
  uv_timer_s* retry_timer_;  // frees itself when it is closed
};

}  // namespace mesh::io
