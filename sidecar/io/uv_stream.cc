#include "sidecar/io/uv_stream.h"

#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <utility>

#include "common/base/check.h"
#include "common/base/limits.h"
#include "sidecar/io/process.h"

namespace mesh::io {
namespace {

constexpr size_t kIovecsMax = 64;
// One connection may take this much of a turn; others and control traffic are served before it goes on.
constexpr size_t kReadPerTurnBytes = 1 * limits::MiB;

struct Write {
  uv_write_t request;
  std::vector<Slice> chunks;  // keeps the bytes alive while libuv writes them
  size_t bytes = 0;
};

struct Connect {
  uv_connect_t request;
};

uv_buf_t buffer_of(const Slice& slice) {
  // libuv's buffers are not const, but writing does not touch them.
  return uv_buf_init(const_cast<char*>(reinterpret_cast<const char*>(slice.data())),
                     static_cast<unsigned>(slice.size()));
}

}  // namespace

UvHandle* UvHandle::open(uv_loop_t* loop, bool is_pipe) {
  auto* handle = new UvHandle{};
  handle->is_pipe = is_pipe;
  const int status = is_pipe ? uv_pipe_init(loop, &handle->pipe, 0) : uv_tcp_init(loop, &handle->tcp);
  MESH_CHECK(status == 0);
  handle->any.data = handle;
  return handle;
}

void UvHandle::close() {
  owner = nullptr;
  uv_close(&any, [](uv_handle_t* closed) { delete static_cast<UvHandle*>(closed->data); });
}

UvStream::UvStream(StreamShared& shared, UvHandle* handle) : shared_(shared), handle_(handle) { handle_->owner = this; }

UvStream::~UvStream() {
  std::erase(shared_.to_flush, this);
  std::erase(shared_.to_resume, this);
  std::erase(shared_.to_fail, this);
  handle_->close();
}

void UvStream::begin_connect(const Endpoint& endpoint) {
  auto* request = new Connect{};
  request->request.data = handle_;
  int status = 0;
  if (endpoint.is_ipc) {
    uv_pipe_connect(&request->request, &handle_->pipe, endpoint.address.c_str(), on_connected);
    return;
  }
  sockaddr_storage address{};
  status = uv_ip4_addr(endpoint.address.c_str(), endpoint.port, reinterpret_cast<sockaddr_in*>(&address));
  if (status != 0) {
    status = uv_ip6_addr(endpoint.address.c_str(), endpoint.port, reinterpret_cast<sockaddr_in6*>(&address));
  }
  MESH_CHECK(status == 0);  // the config admits numeric addresses only
  status = uv_tcp_connect(&request->request, &handle_->tcp, reinterpret_cast<const sockaddr*>(&address), on_connected);
  // A lack of fds or buffers, or of a network to send to.
  if (status != 0) {
    delete request;
    end_later(status);
  }
}

void UvStream::on_connected(uv_connect_t* request, int status) {
  auto* handle = static_cast<UvHandle*>(request->data);
  delete reinterpret_cast<Connect*>(request);
  UvStream* self = handle->owner;
  if (self == nullptr || status == UV_ECANCELED) return;
  if (status != 0) {
    self->end(status);
    return;
  }
  self->connected_ = true;
  self->begin_reading();
  self->flush_later();
  self->observer_->on_connected();
}

void UvStream::begin_reading() {
  connected_ = true;
  if (!handle_->is_pipe) uv_tcp_nodelay(&handle_->tcp, 1);
  if (!paused_) start_read();
}

void UvStream::start_read() {
  if (connected_ && !ended_) uv_read_start(&handle_->stream, on_alloc, on_read);
}

void UvStream::on_alloc(uv_handle_t* handle, size_t /*suggested*/, uv_buf_t* buffer) {
  UvStream* self = static_cast<UvHandle*>(handle->data)->owner;
  self->direct_ = self->observer_->read_target();
  const std::span<uint8_t> target = self->direct_.empty() ? self->shared_.reads.target() : self->direct_;
  *buffer = uv_buf_init(reinterpret_cast<char*>(target.data()), static_cast<unsigned>(target.size()));
}

void UvStream::on_read(uv_stream_t* stream, ssize_t count, const uv_buf_t* /*buffer*/) {
  auto* handle = static_cast<UvHandle*>(stream->data);
  UvStream* self = handle->owner;
  if (count == 0) return;  // EAGAIN
  if (count < 0) {
    self->end(static_cast<int>(count));
    return;
  }
  const auto bytes = static_cast<size_t>(count);
  self->read_this_turn_ += bytes;
  if (self->read_this_turn_ > kReadPerTurnBytes && !self->resting_) {
    self->resting_ = true;
    uv_read_stop(stream);
  }
  if (self->read_this_turn_ == bytes || self->resting_) self->shared_.to_resume.push_back(self);
  // The observer may destroy this stream: nothing of it is touched afterwards.
  if (self->direct_.empty()) {
    self->observer_->on_bytes(self->shared_.reads.commit(bytes));
  } else {
    self->observer_->on_target_filled(bytes);
  }
}

void UvStream::resume_turn() {
  read_this_turn_ = 0;
  if (!resting_) return;
  resting_ = false;
  if (!paused_) start_read();
}

void UvStream::end(int status) {
  if (ended_) return;
  ended_ = true;
  uv_read_stop(&handle_->stream);
  observer_->on_closed(status == UV_EOF ? "closed by the other end" : uv_err_name(status));
}

// At the end of this turn: the caller is not prepared to be told now.
void UvStream::end_later(int status) {
  if (failure_ != 0) return;
  failure_ = status;
  shared_.to_fail.push_back(this);
}

void UvStream::fail_turn() { end(failure_); }

// libuv counts down what is left of its request, so progress within a large body is seen.
size_t UvStream::unwritten_bytes() const { return uv_stream_get_write_queue_size(&handle_->stream); }

// tcp(7): SIOCOUTQ is what was sent and not yet acknowledged, and for AF_UNIX what was not yet read.
uint64_t UvStream::acknowledged_bytes() const {
  uv_os_fd_t fd = -1;
  int under_way = 0;
  if (uv_fileno(&handle_->any, &fd) != 0 || ioctl(fd, SIOCOUTQ, &under_way) != 0) return accepted_bytes();
  return accepted_bytes() - std::min(accepted_bytes(), static_cast<uint64_t>(under_way));
}

bool UvStream::has_unread() const {
  uv_os_fd_t fd = -1;
  int unread = 0;
  return uv_fileno(&handle_->any, &fd) == 0 && ioctl(fd, FIONREAD, &unread) == 0 && unread > 0;
}

void UvStream::abandon() {
  if (std::exchange(ended_, true)) return;
  uv_read_stop(&handle_->stream);
  std::erase(shared_.to_fail, this);
  out_.drop_front(out_.bytes());
}

void UvStream::pause_reading() {
  if (paused_) return;
  paused_ = true;
  if (!resting_ && connected_) uv_read_stop(&handle_->stream);
}

void UvStream::resume_reading() {
  if (!paused_) return;
  paused_ = false;
  if (!resting_) start_read();
}

void UvStream::flush_later() {
  if (out_.bytes() >= limits::flush_at_once_bytes) flush();
  if (marked_) return;
  marked_ = true;
  shared_.to_flush.push_back(this);
}

void UvStream::flush() {
  if (!connected_ || ended_) return;
  if (in_write_bytes_ > 0) return;  // the kernel refused before; on_written goes on
  while (!out_.empty()) {
    std::array<uv_buf_t, kIovecsMax> buffers;
    const auto chunks = out_.chunks();
    const size_t count = std::min(chunks.size(), buffers.size());
    size_t offered = 0;
    for (size_t i = 0; i < count; ++i) {
      buffers[i] = buffer_of(chunks[i]);
      offered += chunks[i].size();
    }
    const int written = uv_try_write(&handle_->stream, buffers.data(), static_cast<unsigned>(count));
    if (written < 0 && written != UV_EAGAIN) {
      end_later(written);
      return;
    }
    const size_t accepted = written > 0 ? static_cast<size_t>(written) : 0;
    handed_bytes_ += accepted;
    out_.drop_front(accepted);
    if (accepted < offered) {
      write_when_possible();
      return;
    }
  }
}

// libuv has no way to ask a stream for writability alone, so a bounded part is handed over as a request; what comes
// meanwhile collects in out_ and leaves together.
void UvStream::write_when_possible() {
  auto* write = new Write{};
  std::vector<uv_buf_t> buffers;
  for (const Slice& chunk : out_.chunks()) {
    if (write->chunks.size() == kIovecsMax) break;
    write->chunks.push_back(chunk);
    write->bytes += chunk.size();
    buffers.push_back(buffer_of(chunk));
  }
  write->request.data = handle_;
  in_write_bytes_ = write->bytes;
  handed_bytes_ += write->bytes;
  out_.drop_front(write->bytes);
  const bool first = !std::exchange(congested_, true);
  const int status =
      uv_write(&write->request, &handle_->stream, buffers.data(), static_cast<unsigned>(buffers.size()), on_written);
  if (status != 0) {
    delete write;
    end_later(status);
    return;
  }
  if (first) observer_->on_congested();
}

void UvStream::on_written(uv_write_t* request, int status) {
  auto* write = reinterpret_cast<Write*>(request);
  auto* handle = static_cast<UvHandle*>(request->data);
  UvStream* self = handle->owner;
  delete write;
  if (self == nullptr || status == UV_ECANCELED || self->ended_) return;
  self->in_write_bytes_ = 0;
  if (status != 0) {
    self->end(status);
    return;
  }
  self->flush();
  if (self->unsent_bytes() == 0) {
    self->congested_ = false;
    self->out_.shrink();
    self->observer_->on_drained();
  }
}

std::optional<PeerCredentials> UvStream::credentials() const {
  uv_os_fd_t fd = -1;
  if (!handle_->is_pipe || uv_fileno(&handle_->any, &fd) != 0) return std::nullopt;
  ucred peer{};
  socklen_t size = sizeof(peer);
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return std::nullopt;
  return PeerCredentials{.pid = peer.pid, .uid = peer.uid, .gid = peer.gid};
}

uint32_t UvStream::peer_pid() const {
  uv_os_fd_t fd = -1;
  if (uv_fileno(&handle_->any, &fd) != 0) return 0;
  const auto peer = credentials();
  return static_cast<uint32_t>(peer ? peer->pid : loopback_peer(fd));
}

}  // namespace mesh::io
