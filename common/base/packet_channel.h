// Packets to and from a process of this host that may come and go.
#pragma once

#include <string_view>

#include "common/base/slice.h"

namespace mesh {

class PacketChannelObserver {
 public:
  virtual ~PacketChannelObserver() = default;
  // The other end is there: it knows nothing of what was said before.
  virtual void on_channel_open() = 0;
  // Valid during the call.
  virtual void on_channel_packet(ByteView bytes) = 0;
  // What was sent and not answered may have arrived or not. It is opened again as soon as that can be.
  virtual void on_channel_closed() = 0;
};

class PacketChannel {
 public:
  virtual ~PacketChannel() = default;
  // Opens it, and again each time it closes. Nobody is told within this call. The observer outlives this.
  virtual void open(PacketChannelObserver& observer) = 0;
  // False if it is not open, or the other end reads too slowly: then it closes.
  virtual bool send(std::string_view bytes) = 0;
};

}  // namespace mesh
