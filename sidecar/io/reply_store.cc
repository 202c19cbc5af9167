#include "sidecar/io/reply_store.h"

#include <uv.h>

#include <algorithm>
#include <iterator>
#include <latch>
#include <utility>

#include "common/base/check.h"

namespace mesh::io {
namespace {

// Of puts that wait for the disk; one that is slower gets no more of them.
constexpr uint64_t kWaitingBytesMax = 16 << 20;
// What a request takes beside its value.
constexpr uint64_t kRequestBytes = 256;
// One reader does so many at a time: the last one's answer waits for the first one's, and so does the first.
constexpr size_t kLoadsPerJob = 16;
// So many hits are remembered until something is written, and from when on they are a reason to write.
constexpr size_t kUsesMax = 4096;
constexpr size_t kUsesToWrite = 1024;
// A load that an erasure has overtaken again and again is a miss.
constexpr int kTriesMax = 3;

bool is_erasure(const ReplyRequest& request) {
  return request.kind == ReplyRequest::Kind::kErase || request.kind == ReplyRequest::Kind::kEraseAll;
}

}  // namespace

// Both live by themselves, since libuv calls back even if the store is gone.
struct LmdbReplyStore::WriteJob {
  uv_work_t work{};
  LmdbReplyStore* owner;
  ReplyIndex* index;
  std::vector<ReplyRequest> requests{};
  uint64_t bytes = 0;
  ReplyIndex::Report report{};
  bool has_more = false;
  std::latch is_done{1};

  // On a thread of the pool.
  void run() noexcept {
    index->run(requests);
    report = index->report();
    has_more = index->has_more();
    is_done.count_down();
  }
  void finish() { owner->finish_write(*this); }
};

struct LmdbReplyStore::ReadJob {
  uv_work_t work{};
  LmdbReplyStore* owner;
  ReplyIndex* index;
  ReadJob** slot;
  std::vector<ReplyLoad> loads{};
  uint64_t erasures_before = 0;
  std::latch is_done{1};

  void run() noexcept {
    for (ReplyLoad& load : loads) index->load(load);
    is_done.count_down();
  }
  void finish() { owner->finish_read(*this); }
};

namespace {

template <class Job>
void send_to_pool(uv_loop_t* loop, Job* job) {
  job->work.data = job;
  const int status = uv_queue_work(
      loop, &job->work, [](uv_work_t* work) { static_cast<Job*>(work->data)->run(); },
      [](uv_work_t* work, int) {
        const std::unique_ptr<Job> done(static_cast<Job*>(work->data));
        if (done->owner != nullptr) done->finish();
      });
  MESH_CHECK(status == 0);
}

}  // namespace

LmdbReplyStore::LmdbReplyStore(StoreShared& shared, const std::string& path, uint64_t budget_bytes, int64_t retry_ms)
    : shared_(shared),
      index_(std::make_unique<ReplyIndex>(path, budget_bytes, retry_ms)),
      retry_ms_(retry_ms),
      retry_timer_(new uv_timer_t) {
  stats_.budget_bytes = index_->budget_bytes();
  uv_timer_init(shared.loop, retry_timer_);
  uv_unref(reinterpret_cast<uv_handle_t*>(retry_timer_));
  retry_timer_->data = this;
  submit_later();
}

LmdbReplyStore::~LmdbReplyStore() {
  if (is_to_be_submitted_) shared_.forget(this);
  uv_close(reinterpret_cast<uv_handle_t*>(retry_timer_),
           [](uv_handle_t* handle) { delete reinterpret_cast<uv_timer_t*>(handle); });
  for (ReadJob* job : read_jobs_) {
    if (job == nullptr) continue;
    job->is_done.wait();
    job->owner = nullptr;
  }
  std::vector<ReplyRequest> rest;
  if (write_job_ != nullptr) {
    write_job_->is_done.wait();
    write_job_->owner = nullptr;
    for (ReplyRequest& request : write_job_->requests) {
      if (is_erasure(request) && !request.is_done) rest.push_back(std::move(request));
    }
  }
  std::move(waiting_.begin(), waiting_.end(), std::back_inserter(rest));
  add_uses(rest);
  if (!rest.empty()) index_->run(rest);
}

void LmdbReplyStore::load(uint64_t ticket, const ReplyHash& hash) {
  MESH_CHECK(observer_ != nullptr);
  loads_.push_back({.ticket = ticket, .hash = hash});
  submit_later();
}

void LmdbReplyStore::put(const ReplyHash& hash, Slice value, const Terms& terms) {
  if (terms.ttl_ms <= 0) return;
  const uint64_t bytes = value.held_bytes() + kRequestBytes;
  if (waiting_bytes_ + bytes > kWaitingBytesMax) {
    ++refused_in_queue_;
    ++stats_.refused;
    return;
  }
  waiting_bytes_ += bytes;
  const int64_t now_ms = wall_ms();
  EntryHeader header{};
  header.cost_us = terms.cost_us;
  header.put_ms = now_ms;
  header.written_ms = now_ms - terms.age_ms;
  header.until_ms = now_ms + std::min(terms.ttl_ms, INT64_MAX - now_ms);
  ask({.kind = ReplyRequest::Kind::kPut,
       .hash = hash,
       .value = std::move(value),
       .names = {terms.names.begin(), terms.names.end()},
       .terms = header});
}

void LmdbReplyStore::erase(uint64_t ticket, std::span<const uint64_t> names) {
  ++stats_.erasures_pending;
  ask({.kind = ReplyRequest::Kind::kErase, .ticket = ticket, .names = {names.begin(), names.end()}});
}

void LmdbReplyStore::erase_all(uint64_t ticket) {
  ++stats_.erasures_pending;
  ask({.kind = ReplyRequest::Kind::kEraseAll, .ticket = ticket});
}

void LmdbReplyStore::ask(ReplyRequest request) {
  MESH_CHECK(observer_ != nullptr);
  waiting_.push_back(std::move(request));
  if (write_job_ == nullptr) submit_later();
}

void LmdbReplyStore::submit_later() {
  if (!std::exchange(is_to_be_submitted_, true)) shared_.submit_later(this);
}

void LmdbReplyStore::submit() {
  is_to_be_submitted_ = false;
  if (write_job_ == nullptr && (must_write_ || !waiting_.empty() || uses_.size() >= kUsesToWrite)) begin_write();
  for (ReadJob*& slot : read_jobs_) {
    if (slot == nullptr && !loads_.empty()) begin_read(slot);
  }
}

void LmdbReplyStore::begin_write() {
  must_write_ = false;
  write_job_ = new WriteJob{.owner = this, .index = index_.get()};
  write_job_->requests.assign(std::make_move_iterator(waiting_.begin()), std::make_move_iterator(waiting_.end()));
  waiting_.clear();
  write_job_->bytes = waiting_bytes_;
  add_uses(write_job_->requests);
  send_to_pool(shared_.loop, write_job_);
}

void LmdbReplyStore::begin_read(ReadJob*& slot) {
  slot = new ReadJob{.owner = this, .index = index_.get(), .slot = &slot, .erasures_before = erasures_reported_};
  const size_t count = std::min(loads_.size(), kLoadsPerJob);
  slot->loads.assign(std::make_move_iterator(loads_.begin()), std::make_move_iterator(loads_.begin() + count));
  loads_.erase(loads_.begin(), loads_.begin() + count);
  send_to_pool(shared_.loop, slot);
}

// The observer may destroy this in any of its calls.
void LmdbReplyStore::finish_write(WriteJob& job) {
  take_report(job.report);
  waiting_bytes_ -= job.bytes;
  std::vector<ReplyRequest> again;
  std::vector<uint64_t> reported;
  for (ReplyRequest& request : job.requests) {
    if (is_erasure(request) && request.is_done) reported.push_back(request.ticket);
    if (is_erasure(request) && !request.is_done) again.push_back(std::move(request));
  }
  job.requests.clear();
  waiting_.insert(waiting_.begin(), std::make_move_iterator(again.begin()), std::make_move_iterator(again.end()));
  must_write_ = job.has_more;
  if (!stats_.is_serving) arm_retry();
  erasures_reported_ += reported.size();
  stats_.erasures_pending -= reported.size();
  for (const uint64_t ticket : reported) {
    observer_->on_erased(ticket);
    if (job.owner == nullptr) return;
  }
  write_job_ = nullptr;
  // Beside a disk that does not work it waits for the timer, or for whoever asks next.
  if (must_write_ || (stats_.is_serving && !waiting_.empty())) submit_later();
}

void LmdbReplyStore::finish_read(ReadJob& job) {
  for (ReplyLoad& load : job.loads) {
    if (must_read_again(job, load)) {
      ++load.tries;
      loads_.push_back(std::move(load));
      continue;
    }
    if (job.erasures_before != erasures_reported_) load.reply.reset();
    note_load(load);
    observer_->on_loaded(load.ticket, std::move(load.reply));
    if (job.owner == nullptr) return;
  }
  *job.slot = nullptr;
  if (!loads_.empty()) submit_later();
}

// It may have seen what an erasure that was reported meanwhile has erased.
bool LmdbReplyStore::must_read_again(const ReadJob& job, const ReplyLoad& load) const {
  return load.reply && job.erasures_before != erasures_reported_ && load.tries + 1 < kTriesMax;
}

void LmdbReplyStore::note_load(ReplyLoad& load) {
  ++(load.reply ? stats_.hits : stats_.misses);
  if (load.reply && (uses_.size() < kUsesMax || uses_.contains(load.hash))) ++uses_[load.hash];
  if (!load.is_damaged && !load.is_expired) return;
  ReplyRequest request{.kind = ReplyRequest::Kind::kDiscard, .hash = load.hash};
  request.terms.content = load.content;
  request.is_damaged = load.is_damaged;
  ask(std::move(request));
}

void LmdbReplyStore::take_report(const ReplyIndex::Report& report) {
  commits_ = report.commits;
  stats_.entries = report.entries;
  stats_.bytes = report.bytes;
  stats_.puts = report.puts;
  stats_.evicted = report.evicted;
  stats_.damaged = report.damaged;
  stats_.refused = report.refused + refused_in_queue_;
  stats_.begun_anew = report.begun_anew;
  stats_.is_serving = report.is_serving;
  stats_.last_error = report.last_error;
}

// They go with what is written anyway.
void LmdbReplyStore::add_uses(std::vector<ReplyRequest>& requests) {
  for (const auto& [hash, uses] : std::exchange(uses_, {})) {
    requests.push_back({.kind = ReplyRequest::Kind::kUses, .hash = hash, .uses = uses});
  }
}

void LmdbReplyStore::arm_retry() {
  uv_timer_start(
      retry_timer_,
      [](uv_timer_t* timer) {
        auto* self = static_cast<LmdbReplyStore*>(timer->data);
        self->must_write_ = true;
        if (self->write_job_ == nullptr) self->submit_later();
      },
      static_cast<uint64_t>(retry_ms_), 0);
}

}  // namespace mesh::io
