// A PacketChannel to a listening AF_UNIX socket of type SOCK_SEQPACKET.
#pragma once

#include <memory>
#include <string>

#include "common/base/packet_channel.h"
#include "sidecar/io/packet_socket.h"

struct uv_timer_s;

namespace mesh::io {

class Loop;

class PacketDialer final : public PacketChannel, private PacketObserver {
 public:
  // Reads packets of `packet_bytes_max` at most; one that is longer closes the channel. The loop outlives this.
  PacketDialer(Loop& loop, std::string path, size_t packet_bytes_max);
  ~PacketDialer() override;
  PacketDialer(const PacketDialer&) = delete;
  PacketDialer& operator=(const PacketDialer&) = delete;

  void open(PacketChannelObserver& observer) override;
  bool send(std::string_view bytes) override;

 private:
  void on_packet(ByteView bytes, bool is_cut, bool had_descriptors) override;
  void on_closed(std::string_view reason) override;
  void dial();
  void dial_in(uint64_t ms);
  void hang_up();

  Loop& loop_;
  std::string path_;
  size_t packet_bytes_max_;
  uv_timer_s* timer_;  // frees itself when it is closed
  PacketChannelObserver* observer_ = nullptr;
  std::unique_ptr<PacketSocket> socket_;
  uint64_t pause_ms_ = 0;
};

}  // namespace mesh::io
