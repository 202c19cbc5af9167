// Whatever bytes are taken for an envelope can be written again, and then mean the same.
#include <string>

#include "common/base/check.h"
#include "common/wire/envelope_codec.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace mesh::wire;
  DecodedEnvelope first;
  if (decode_envelope({data, size}, first) != nullptr) return 0;
  if (first.envelope.needs_unknown) return 0;  // what it means nobody knows here

  Envelope envelope = first.envelope;
  // Only the size of a body is written, so nobody looks at its bytes.
  envelope.body = mesh::Slice(mesh::BlockRef(), data, static_cast<size_t>(first.body_size));
  std::string bytes(encoded_bytes_bound(envelope), '\0');
  uint8_t* const begin = reinterpret_cast<uint8_t*>(bytes.data());
  FieldWriter writer(begin);
  encode_envelope(envelope, first.body_own_frame, writer);
  const size_t written = static_cast<size_t>(writer.position() - begin);
  MESH_CHECK(written <= bytes.size());

  DecodedEnvelope second;
  MESH_CHECK(decode_envelope({begin, written}, second) == nullptr);
  MESH_CHECK(second.envelope.kind == envelope.kind && second.envelope.call_id == envelope.call_id);
  MESH_CHECK(second.envelope.service == envelope.service && second.envelope.method == envelope.method);
  MESH_CHECK(second.envelope.budget_us == envelope.budget_us && second.envelope.priority == envelope.priority);
  MESH_CHECK(second.envelope.code == envelope.code && second.envelope.part_sizes == envelope.part_sizes);
  MESH_CHECK((second.envelope.delivery != nullptr) == (envelope.delivery != nullptr));
  if (envelope.delivery != nullptr) {
    const Delivery& delivery = *second.envelope.delivery;
    MESH_CHECK(delivery.key == envelope.delivery->key && delivery.caller == envelope.delivery->caller);
    MESH_CHECK(delivery.attempt == envelope.delivery->attempt);
    MESH_CHECK(delivery.is_sensitive == envelope.delivery->is_sensitive);
  }
  MESH_CHECK(second.body_size == first.body_size && second.body_own_frame == first.body_own_frame);
  return 0;
}
