// One envelope, struct to protobuf bytes and back, without its body.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/base/code.h"
#include "common/base/slice.h"
#include "common/wire/envelope.h"
#include "common/wire/fault.h"
#include "common/wire/field.h"

namespace mesh::wire {

// An envelope as it was read, and where its body is to be found. All but `error`, `hello` and `spans` are views on the
// input.
struct DecodedEnvelope {
  Envelope envelope;  // its body is empty; `error`, `hello` and the like point to the members below
  uint64_t body_size = 0;
  bool body_own_frame = false;
  bool body_zstd = false;
  Error error;
  Hello hello;
  CalleeSpans spans;
  Delivery delivery;
  Validity validity;
  KeptMark kept;
  std::vector<Standing> standings;
};

// Bytes that encode_envelope() may need at most.
size_t encoded_bytes_bound(const Envelope& envelope);

// Writes it. Of an error's texts only what fits is told. With `body_own_frame` the last byte written is the value of
// body_zstd, false, so that it can be set once the body was compressed.
void encode_envelope(const Envelope& envelope, bool body_own_frame, FieldWriter& writer);

// Reads it into `decoded`, whose former content is lost; null if all is well. Sizes are checked against the limits, but
// the body has not been seen yet.
const Fault* decode_envelope(ByteView bytes, DecodedEnvelope& decoded);

}  // namespace mesh::wire
