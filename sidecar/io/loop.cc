#include "sidecar/io/loop.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <uv.h>

#include <cstring>
#include <utility>

#include "common/base/check.h"
#include "common/base/limits.h"
#include "sidecar/io/lmdb_store.h"
#include "sidecar/io/reply_store.h"
#include "sidecar/io/uv_listener.h"
#include "sidecar/io/uv_stream.h"

namespace mesh::io {

struct Loop::Handles {
  struct Signal {
    uv_signal_t handle;
    std::function<void()> handler;
  };
  uv_loop_t loop;
  uv_timer_t timer;
  uv_prepare_t prepare;
  StreamShared shared;
  StoreShared stores;
  std::vector<std::unique_ptr<Signal>> signals;
};

namespace {

Error listen_error(const Endpoint& endpoint, int status) {
  Error error;
  error.code = Code::kInternal;
  error.rule = "listen";
  error.text = "cannot listen on " + endpoint.text + ": " + uv_strerror(status);
  if (status == UV_EADDRINUSE) error.hint = "another process has this address; stop it or choose another port";
  if (status == UV_EADDRNOTAVAIL) error.hint = "this host has no such address; see `ip address`";
  if (status == UV_EACCES) error.hint = "check the permissions of the directory, or use a port above 1023";
  return error;
}

// A socket file that nobody answers on was left by a process that died.
void remove_stale_socket(const std::string& path) {
  struct stat info {};
  if (lstat(path.c_str(), &info) != 0 || !S_ISSOCK(info.st_mode)) return;
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, path.c_str(), sizeof(address.sun_path) - 1);
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0 && errno == ECONNREFUSED) {
    unlink(path.c_str());
  }
  close(fd);
}

}  // namespace

Loop::Loop() : handles_(std::make_unique<Handles>()) {
  Handles& h = *handles_;
  MESH_CHECK(uv_loop_init(&h.loop) == 0);
  uv_timer_init(&h.loop, &h.timer);
  uv_prepare_init(&h.loop, &h.prepare);
  h.timer.data = this;
  h.prepare.data = this;
  h.shared.loop = &h.loop;
  h.stores.loop = &h.loop;
  h.stores.end_of_turn = reinterpret_cast<uv_handle_t*>(&h.prepare);
  uv_prepare_start(&h.prepare, [](uv_prepare_t* prepare) { static_cast<Loop*>(prepare->data)->end_turn(); });
  uv_unref(reinterpret_cast<uv_handle_t*>(&h.prepare));
}

Loop::~Loop() {
  Handles& h = *handles_;
  uv_close(reinterpret_cast<uv_handle_t*>(&h.timer), nullptr);
  uv_close(reinterpret_cast<uv_handle_t*>(&h.prepare), nullptr);
  for (auto& signal : h.signals) uv_close(reinterpret_cast<uv_handle_t*>(&signal->handle), nullptr);
  uv_run(&h.loop, UV_RUN_DEFAULT);  // close callbacks
  MESH_CHECK(uv_loop_close(&h.loop) == 0);
}

void Loop::run() { uv_run(&handles_->loop, UV_RUN_DEFAULT); }

void Loop::stop() { uv_stop(&handles_->loop); }

uv_loop_s* Loop::handle() { return &handles_->loop; }

void Loop::on_signal(int signum, std::function<void()> handler) {
  auto signal = std::make_unique<Handles::Signal>();
  uv_signal_init(&handles_->loop, &signal->handle);
  signal->handler = std::move(handler);
  signal->handle.data = signal.get();
  uv_signal_start(
      &signal->handle, [](uv_signal_t* handle, int) { static_cast<Handles::Signal*>(handle->data)->handler(); },
      signum);
  uv_unref(reinterpret_cast<uv_handle_t*>(&signal->handle));
  handles_->signals.push_back(std::move(signal));
}

Instant Loop::now() {
  if (!now_known_) {
    now_ = Instant(Duration(static_cast<int64_t>(uv_hrtime())));
    now_known_ = true;
  }
  return now_;
}

void Loop::end_turn() {
  StreamShared& shared = handles_->shared;
  // First, so that what newcomers are told leaves with this turn.
  for (const auto waiting = std::exchange(shared.to_accept, {}); UvListener * listener : waiting)
    listener->resume_turn();
  // Whoever is told of an end may say something to others, and saying it may fail at once: until all is quiet.
  do {
    while (!shared.to_fail.empty()) {
      UvStream* failed = shared.to_fail.back();
      shared.to_fail.pop_back();
      failed->fail_turn();
    }
    if (observer_ != nullptr) observer_->on_turn_ending();
    for (size_t i = 0; i < shared.to_flush.size(); ++i) shared.to_flush[i]->flush_marked();
    shared.to_flush.clear();
  } while (!shared.to_fail.empty());
  for (size_t i = 0; i < shared.to_resume.size(); ++i) shared.to_resume[i]->resume_turn();
  shared.to_resume.clear();
  if (!handles_->stores.to_submit.empty()) [[unlikely]]
    submit_stores();
  now_known_ = false;
}

void Loop::submit_stores() {
  StoreShared& stores = handles_->stores;
  for (size_t i = 0; i < stores.to_submit.size(); ++i) stores.to_submit[i]->submit();
  stores.to_submit.clear();
  uv_unref(stores.end_of_turn);
}

void StoreShared::submit_later(TurnWork* work) {
  to_submit.push_back(work);
  uv_ref(end_of_turn);
}

void StoreShared::forget(TurnWork* work) {
  std::erase(to_submit, work);
  if (to_submit.empty()) uv_unref(end_of_turn);
}

void Loop::arm_timer(Instant when) {
  uv_timer_t* timer = &handles_->timer;
  // Waking too early is harmless and rare; moving the timer for each call is neither.
  if (armed_ <= when) return;
  armed_ = when;
  const int64_t wait_ms = std::max<int64_t>(0, to_ms_up(when - now()));
  uv_timer_start(
      timer,
      [](uv_timer_t* fired) {
        auto* self = static_cast<Loop*>(fired->data);
        self->armed_ = kNever;
        if (self->observer_ != nullptr) self->observer_->on_timer();
      },
      static_cast<uint64_t>(wait_ms), 0);
}

Result<std::unique_ptr<Listener>> Loop::listen(const Endpoint& endpoint, uint32_t mode, AcceptObserver& observer) {
  StreamShared& shared = handles_->shared;
  UvHandle* handle = UvHandle::open(shared.loop, endpoint.is_ipc);
  int status = 0;
  if (endpoint.is_ipc) {
    remove_stale_socket(endpoint.address);
    // Nobody may connect between bind and chmod.
    const mode_t before = umask(0777 & ~static_cast<mode_t>(mode));
    status = uv_pipe_bind(&handle->pipe, endpoint.address.c_str());
    umask(before);
  } else {
    sockaddr_storage address{};
    status = uv_ip4_addr(endpoint.address.c_str(), endpoint.port, reinterpret_cast<sockaddr_in*>(&address));
    if (status != 0) {
      status = uv_ip6_addr(endpoint.address.c_str(), endpoint.port, reinterpret_cast<sockaddr_in6*>(&address));
    }
    if (status == 0) status = uv_tcp_bind(&handle->tcp, reinterpret_cast<const sockaddr*>(&address), 0);
  }
  if (status != 0) {
    handle->close();
    return Unexpected(listen_error(endpoint, status));
  }
  auto listener =
      std::make_unique<UvListener>(shared, handle, observer, endpoint.is_ipc ? endpoint.address : std::string());
  // libuv reports an address in use only here.
  if (status = listener->begin(); status != 0) return Unexpected(listen_error(endpoint, status));
  return listener;
}

std::unique_ptr<Stream> Loop::connect(const Endpoint& endpoint, StreamObserver& observer) {
  auto stream = std::make_unique<UvStream>(handles_->shared, UvHandle::open(handles_->shared.loop, endpoint.is_ipc));
  stream->set_observer(&observer);
  stream->begin_connect(endpoint);
  return stream;
}

Result<std::unique_ptr<LmdbStore>> Loop::open_store(const std::string& path, size_t map_bytes) {
  auto file = LmdbFile::open(path, map_bytes);
  if (!file) return Unexpected(std::move(file.error()));
  return std::make_unique<LmdbStore>(handles_->stores, std::move(*file));
}

std::unique_ptr<LmdbReplyStore> Loop::open_reply_store(const std::string& path, uint64_t budget_bytes,
                                                       int64_t retry_ms) {
  return std::make_unique<LmdbReplyStore>(handles_->stores, path, budget_bytes, retry_ms);
}

}  // namespace mesh::io
