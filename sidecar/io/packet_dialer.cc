#include "sidecar/io/packet_dialer.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <uv.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "common/base/limits.h"
#include "sidecar/io/loop.h"

namespace mesh::io {
namespace {

// On one host that is quick or fails at once.
OwnedFd connect_to(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) return {};
  std::memcpy(address.sun_path, path.data(), path.size());
  OwnedFd fd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd || ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) return {};
  return fd;
}

}  // namespace

PacketDialer::PacketDialer(Loop& loop, std::string path, size_t packet_bytes_max)
    : loop_(loop), path_(std::move(path)), packet_bytes_max_(packet_bytes_max), timer_(new uv_timer_t) {
  uv_timer_init(loop.handle(), timer_);
  timer_->data = this;
  uv_unref(reinterpret_cast<uv_handle_t*>(timer_));
}

PacketDialer::~PacketDialer() {
  uv_close(reinterpret_cast<uv_handle_t*>(timer_),
           [](uv_handle_t* handle) { delete reinterpret_cast<uv_timer_t*>(handle); });
}

void PacketDialer::open(PacketChannelObserver& observer) {
  observer_ = &observer;
  dial_in(0);
}

void PacketDialer::dial_in(uint64_t ms) {
  uv_timer_start(
      timer_, [](uv_timer_t* fired) { static_cast<PacketDialer*>(fired->data)->dial(); }, ms, 0);
}

void PacketDialer::dial() {
  OwnedFd fd = connect_to(path_);
  if (!fd) {
    pause_ms_ = std::clamp<uint64_t>(2 * pause_ms_, limits::reconnect_min_ms, limits::reconnect_max_ms);
    return dial_in(pause_ms_);
  }
  socket_ = std::make_unique<PacketSocket>(loop_, std::move(fd), packet_bytes_max_);
  socket_->begin(*this);
  observer_->on_channel_open();
}

bool PacketDialer::send(std::string_view bytes) {
  if (!socket_) return false;
  if (socket_->send(bytes, {})) return true;
  // Not within the call of who sends.
  hang_up();
  return false;
}

void PacketDialer::hang_up() {
  socket_.reset();
  uv_timer_start(
      timer_,
      [](uv_timer_t* fired) {
        auto* self = static_cast<PacketDialer*>(fired->data);
        self->dial_in(limits::reconnect_min_ms);
        self->observer_->on_channel_closed();
      },
      0, 0);
}

void PacketDialer::on_packet(ByteView bytes, bool is_cut, bool /*had_descriptors*/) {
  pause_ms_ = 0;  // whoever speaks is worth coming back to soon
  if (is_cut) return on_closed("a packet is too long");
  observer_->on_channel_packet(bytes);
}

void PacketDialer::on_closed(std::string_view /*reason*/) {
  socket_.reset();
  pause_ms_ = std::clamp<uint64_t>(2 * pause_ms_, limits::reconnect_min_ms, limits::reconnect_max_ms);
  dial_in(pause_ms_);
  observer_->on_channel_closed();
}

}  // namespace mesh::io
