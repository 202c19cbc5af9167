// A ZMTP peer that sends anything, in any pieces. The first byte chooses the role and the limits, the second the
// pieces.

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "common/base/check.h"
#include "common/base/prng.h"
#include "common/zmtp/connection.h"

using namespace mesh;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const bool server = (data[0] & 1) != 0;
  const size_t keep_bytes = (data[0] & 2) != 0 ? 100 : limits::message_bytes;
  Prng prng(data[1]);
  const size_t largest_piece = 1 + prng.below(200);
  Outbox out;
  const Instant start{milliseconds(1)};
  zmtp::Settings settings{.own_type = server ? zmtp::SocketType::kRouter : zmtp::SocketType::kDealer,
                          .accepted_peers = {zmtp::SocketType::kReq, zmtp::SocketType::kDealer, zmtp::SocketType::kRep,
                                             zmtp::SocketType::kRouter},
                          .identity = {},
                          .message_bytes = keep_bytes};
  zmtp::Connection connection(settings, out, start);
  for (size_t at = 2; at < size;) {
    size_t take = std::min(size - at, 1 + prng.below(largest_piece));
    const auto target = connection.read_target();
    if (!target.empty()) {
      take = std::min(take, target.size());
      std::copy_n(data + at, take, target.data());
      connection.commit(take, start);
    } else {
      connection.feed(Slice::copy_of(ByteView(data + at, take)), start);
    }
    at += take;
    while (true) {
      const auto message = connection.next();
      if (!message) {
        MESH_CHECK(!message.error().rule.empty() && !message.error().text.empty());
        MESH_CHECK(!connection.next().has_value());  // final
        return 0;
      }
      if (*message == nullptr) break;
      MESH_CHECK(connection.ready());
      MESH_CHECK((*message)->count >= 1 && (*message)->count <= limits::frames_per_message_max);
      MESH_CHECK((*message)->bytes <= keep_bytes);
    }
    // Each PING is answered by at most as many bytes as it had, and the handshake says little.
    MESH_CHECK(out.bytes() <= 1024 + size);
    static_cast<void>(connection.judge(start + milliseconds(limits::handshake_ms)));
  }
  return 0;
}
