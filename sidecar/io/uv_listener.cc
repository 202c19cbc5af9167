#include "sidecar/io/uv_listener.h"

#include <unistd.h>

#include <memory>
#include <utility>

#include "common/base/limits.h"

namespace mesh::io {

UvListener::UvListener(StreamShared& shared, UvHandle* handle, AcceptObserver& observer, std::string path)
    : shared_(shared), handle_(handle), observer_(observer), path_(std::move(path)) {
  handle_->any.data = this;
}

UvListener::~UvListener() {
  std::erase(shared_.to_accept, this);
  handle_->any.data = handle_;
  handle_->close();
  if (!path_.empty()) unlink(path_.c_str());
}

int UvListener::begin() { return uv_listen(&handle_->stream, limits::listen_backlog, on_connection); }

void UvListener::on_connection(uv_stream_t* server, int status) {
  auto* self = static_cast<UvListener*>(server->data);
  if (status != 0) return;
  if (self->accepted_this_turn_ == 0) self->shared_.to_accept.push_back(self);
  // Not accepting it makes libuv stop listening until it is.
  if (self->accepted_this_turn_ == limits::accepts_per_turn) {
    self->one_waits_ = true;
    return;
  }
  ++self->accepted_this_turn_;
  self->accept();
}

void UvListener::resume_turn() {
  accepted_this_turn_ = 0;
  if (!std::exchange(one_waits_, false)) return;
  shared_.to_accept.push_back(this);
  ++accepted_this_turn_;
  accept();
}

void UvListener::accept() {
  UvHandle* accepted = UvHandle::open(shared_.loop, handle_->is_pipe);
  if (uv_accept(&handle_->stream, &accepted->stream) != 0) {
    accepted->close();
    return;
  }
  auto stream = std::make_unique<UvStream>(shared_, accepted);
  UvStream* raw = stream.get();
  StreamObserver* observer = observer_.on_accepted(std::move(stream));
  if (observer == nullptr) return;  // refused: the stream is gone
  raw->set_observer(observer);
  raw->begin_reading();
}

}  // namespace mesh::io
