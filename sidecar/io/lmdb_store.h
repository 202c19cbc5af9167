// A RecordStore on LMDB: libuv's work pool writes while the loop goes on.
//
// Like a ferry: whoever arrives while it is away boards for the next crossing, so nobody waits for a timetable, and the
// busier the shore the more go at once. One crossing is one commit.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common/base/record_store.h"
#include "sidecar/io/lmdb_file.h"
#include "sidecar/io/turn_work.h"

namespace mesh::io {

// Loop::open_store() makes it; the loop must outlive it.
class LmdbStore final : public RecordStore, private TurnWork {
 public:
  LmdbStore(StoreShared& shared, std::unique_ptr<LmdbFile> file);
  // Blocks until all that was asked is on disk. Nobody is told any more. May be called within the observer's calls.
  ~LmdbStore() override;
  LmdbStore(const LmdbStore&) = delete;
  LmdbStore& operator=(const LmdbStore&) = delete;

  std::vector<Found> recover(size_t head_bytes) override;
  void set_observer(RecordObserver* observer) override { observer_ = observer; }
  void put(uint64_t ticket, const RecordKey& key, std::vector<Slice> value) override;
  void load(uint64_t ticket, const RecordKey& key) override;
  void erase(const RecordKey& key) override;

  // As of the last answer.
  const StoreReport& report() const { return report_; }
  // What failed last among what was answered last, for people; empty if nothing did.
  std::string problem() const { return file_->explain(report_.status); }

 private:
  struct Job;
  void submit() override;
  void ask(RecordRequest request);
  void answer(Job& job);

  StoreShared& shared_;
  std::unique_ptr<LmdbFile> file_;  // the pool's while there is a job
  RecordObserver* observer_ = nullptr;
  std::vector<RecordRequest> waiting_;
  Job* job_ = nullptr;  // until all its answers are given; frees itself
  StoreReport report_;
};

}  // namespace mesh::io
