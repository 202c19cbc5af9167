#include "sidecar/io/worker.h"

#include <uv.h>

#include <future>
#include <utility>

#include "common/base/check.h"
#include "sidecar/io/loop.h"

namespace mesh::io {

struct Worker::Request {
  uv_work_t work;
  std::function<void()> call;
  std::promise<void> ended;
  Worker* owner = nullptr;
};

Worker::~Worker() {
  if (request_ == nullptr) return;
  // The pool has taken it, or drops it now; libuv tells of it in a later turn in either case.
  if (uv_cancel(reinterpret_cast<uv_req_t*>(&request_->work)) != 0) request_->ended.get_future().wait();
  request_->owner = nullptr;
}

void Worker::run(std::function<void()> work, std::function<void()> done) {
  jobs_.push_back({std::move(work), std::move(done)});
  if (jobs_.size() == 1) submit();
}

void Worker::submit() {
  request_ = new Request{};
  request_->work.data = request_;
  request_->owner = this;
  request_->call = std::move(jobs_.front().work);
  const int status = uv_queue_work(
      loop_.handle(), &request_->work,
      [](uv_work_t* work) {
        auto* const request = static_cast<Request*>(work->data);
        request->call();
        request->ended.set_value();
      },
      [](uv_work_t* work, int) {
        auto* const request = static_cast<Request*>(work->data);
        Worker* const owner = request->owner;
        delete request;
        if (owner == nullptr) return;
        owner->request_ = nullptr;
        const auto done = std::move(owner->jobs_.front().done);
        owner->jobs_.pop_front();
        if (!owner->jobs_.empty()) owner->submit();
        done();
      });
  MESH_CHECK(status == 0);
}

}  // namespace mesh::io
