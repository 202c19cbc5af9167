#include "sidecar/io/lmdb_store.h"

#include <uv.h>

#include <latch>
#include <utility>

#include "common/base/check.h"

namespace mesh::io {

// Lives by itself, since libuv calls back even if the store is gone.
struct LmdbStore::Job {
  uv_work_t work{};
  LmdbStore* owner;
  LmdbFile* file;
  std::vector<RecordRequest> requests;
  StoreReport report;
  std::latch is_done{1};

  Job(LmdbStore* store, std::vector<RecordRequest> asked)
      : owner(store), file(store->file_.get()), requests(std::move(asked)) {
    work.data = this;
  }
  // On a thread of the pool.
  void run() noexcept {
    file->run(requests);
    report = file->report();
    is_done.count_down();
  }
};

LmdbStore::LmdbStore(StoreShared& shared, std::unique_ptr<LmdbFile> file) : shared_(shared), file_(std::move(file)) {}

LmdbStore::~LmdbStore() {
  shared_.forget(this);
  if (job_ != nullptr) {
    job_->is_done.wait();
    job_->owner = nullptr;
  }
  file_->run(waiting_);
}

std::vector<RecordStore::Found> LmdbStore::recover(size_t head_bytes) {
  MESH_CHECK(job_ == nullptr && waiting_.empty());
  auto found = file_->recover(head_bytes);
  report_ = file_->report();
  return found;
}

void LmdbStore::put(uint64_t ticket, const RecordKey& key, std::vector<Slice> value) {
  ask({.kind = RecordRequest::Kind::kPut,
       .ticket = ticket,
       .key = key,
       .value = std::move(value),
       .written_ns = boottime_ns()});
}

void LmdbStore::load(uint64_t ticket, const RecordKey& key) {
  ask({.kind = RecordRequest::Kind::kLoad, .ticket = ticket, .key = key});
}

void LmdbStore::erase(const RecordKey& key) { ask({.kind = RecordRequest::Kind::kErase, .key = key}); }

void LmdbStore::ask(RecordRequest request) {
  MESH_CHECK(observer_ != nullptr);
  waiting_.push_back(std::move(request));
  if (job_ == nullptr && waiting_.size() == 1) shared_.submit_later(this);
}

void LmdbStore::submit() {
  job_ = new Job(this, std::exchange(waiting_, {}));
  const int status = uv_queue_work(
      shared_.loop, &job_->work, [](uv_work_t* work) { static_cast<Job*>(work->data)->run(); },
      [](uv_work_t* work, int) {
        const std::unique_ptr<Job> job(static_cast<Job*>(work->data));
        if (job->owner != nullptr) job->owner->answer(*job);
      });
  MESH_CHECK(status == 0);
}

// The observer may destroy this in any of its calls.
void LmdbStore::answer(Job& job) {
  report_ = job.report;
  for (RecordRequest& request : job.requests) {
    if (request.kind == RecordRequest::Kind::kPut) observer_->on_stored(request.ticket, request.is_stored);
    if (request.kind == RecordRequest::Kind::kLoad) observer_->on_loaded(request.ticket, std::move(request.loaded));
    if (job.owner == nullptr) return;
  }
  job_ = nullptr;
  if (!waiting_.empty()) shared_.submit_later(this);
}

}  // namespace mesh::io
