// Frames of any content end in envelopes or in one error, and all bodies lie within what is allowed. The input's first
// byte says how many body frames to cut off its end, the next ones their sizes.
#include <algorithm>
#include <vector>

#include "common/base/check.h"
#include "common/base/limits.h"
#include "common/wire/batch.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using mesh::Slice;
  mesh::ByteView input(data, size);
  if (input.empty()) return 0;
  const size_t body_frames = input[0] % mesh::limits::frames_per_message_max;
  if (input.size() < 1 + body_frames) return 0;
  const mesh::ByteView sizes = input.subspan(1, body_frames);
  input = input.subspan(1 + body_frames);

  std::vector<Slice> frames(1);
  for (const uint8_t wanted : sizes) {
    const size_t cut = std::min<size_t>(wanted, input.size());
    frames.push_back(Slice::copy_of(input.last(cut)));
    input = input.first(input.size() - cut);
  }
  frames[0] = Slice::copy_of(input);

  mesh::wire::BatchDecoder decoder;
  if (!decoder.begin(frames)) return 0;
  size_t envelopes = 0;
  size_t body_bytes = 0;
  while (true) {
    const auto envelope = decoder.next();
    if (!envelope || *envelope == nullptr) break;
    ++envelopes;
    body_bytes += (*envelope)->body.size();
    uint64_t sum = 0;
    for (const uint8_t byte : (*envelope)->body.view()) sum += byte;  // every byte can be read
    static_cast<void>(sum);
  }
  MESH_CHECK(envelopes <= mesh::limits::batch_envelopes_max);
  MESH_CHECK(envelopes < 2 || body_bytes <= mesh::limits::batch_bytes);
  return 0;
}
