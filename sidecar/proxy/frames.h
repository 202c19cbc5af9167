// Between the frames of a ZMTP message and what the engine calls a payload.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "common/base/outbox.h"
#include "common/base/slice.h"
#include "common/zmtp/frame.h"
#include "sidecar/proxy/events.h"

namespace mesh::proxy {

// One frame stays as it is; several are put behind each other, with their sizes.
inline Payload payload_of(std::span<const Slice> frames) {
  if (frames.size() == 1) return Payload{frames[0], {}};
  Payload payload;
  size_t bytes = 0;
  for (const Slice& frame : frames) {
    payload.part_sizes.push_back(static_cast<uint32_t>(frame.size()));
    bytes += frame.size();
  }
  if (bytes == 0) return payload;
  BlockRef block = Block::allocate(bytes);
  uint8_t* to = block->data();
  for (const Slice& frame : frames) {
    if (frame.empty()) continue;
    std::memcpy(to, frame.data(), frame.size());
    to += frame.size();
  }
  const uint8_t* data = block->data();
  payload.body = Slice(std::move(block), data, bytes);
  return payload;
}

// The payload's frames as the last ones of a message.
inline void put_payload(Outbox& out, const Payload& payload) {
  if (payload.part_sizes.empty()) {
    zmtp::put_frame(out, 0, payload.body);
    return;
  }
  size_t at = 0;
  for (size_t i = 0; i < payload.part_sizes.size(); ++i) {
    const size_t size = payload.part_sizes[i];
    zmtp::put_frame(out, i + 1 < payload.part_sizes.size() ? zmtp::kFlagMore : 0, payload.body.part(at, size));
    at += size;
  }
}

}  // namespace mesh::proxy
