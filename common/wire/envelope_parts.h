// The messages within an envelope: an error, a hello, a callee's spans, a request's delivery, what became wrong, how
// soon somebody answers.
#pragma once

#include <cstddef>
#include <string_view>

#include "common/base/code.h"
#include "common/base/limits.h"
#include "common/wire/envelope.h"
#include "common/wire/fault.h"
#include "common/wire/field.h"

namespace mesh::wire {

// A few sentences; the rest of an error would not help anybody and must not fill a batch.
constexpr size_t kErrorTextBytes = 2048;
constexpr size_t kErrorHintBytes = 1024;

inline constexpr size_t kHelloBytesMax = 64 + 2 * limits::name_bytes;
inline constexpr size_t kErrorBytesMax = 32 + kErrorTextBytes + kErrorHintBytes + 4 * limits::name_bytes;
inline constexpr size_t kSpansBytes = 24;
inline constexpr size_t kValidityBytesMax = 24 + 8 * limits::purged_names_max;
inline constexpr size_t kKeptMarkBytesMax = 24;
inline constexpr size_t kStandingBytesMax = 68 + 2 * (2 + limits::name_bytes);
inline constexpr size_t kDeliveryBytesMax = 32 + limits::name_bytes + limits::caller_bytes;

// Each encode_ writes the fields without a length in front. Each decode_ reads them into what already has its defaults;
// null if all is well.
void encode_error(const Error& error, FieldWriter& writer);
const Fault* decode_error(std::string_view bytes, Error& error);

// Names must be at most limits::name_bytes long.
void encode_hello(const Hello& hello, FieldWriter& writer);
const Fault* decode_hello(std::string_view bytes, Hello& hello);

void encode_spans(const CalleeSpans& spans, FieldWriter& writer);
const Fault* decode_spans(std::string_view bytes, CalleeSpans& spans);

void encode_delivery(const Delivery& delivery, FieldWriter& writer);
const Fault* decode_delivery(std::string_view bytes, Delivery& delivery);

void encode_validity(const Validity& validity, FieldWriter& writer);
const Fault* decode_validity(std::string_view bytes, Validity& validity);

void encode_kept_mark(const KeptMark& kept, FieldWriter& writer);
const Fault* decode_kept_mark(std::string_view bytes, KeptMark& kept);

void encode_standing(const Standing& standing, FieldWriter& writer);
const Fault* decode_standing(std::string_view bytes, Standing& standing);

}  // namespace mesh::wire
