#include "common/wire/envelope_parts.h"

#include <algorithm>
#include <cstring>

#include "common/base/check.h"

namespace mesh::wire {
namespace {

// All spans in the order of their fields, which makes each lie at a known place: every reply carries them.
#pragma pack(push, 1)
struct SpansInOrder {
  uint8_t received_tag = fixed64_tag(1);
  uint64_t received_us = 0;
  uint8_t decompress_tag = fixed32_tag(2);
  uint32_t decompress_us = 0;
  uint8_t queue_tag = fixed32_tag(3);
  uint32_t queue_us = 0;
  uint8_t agent_tag = fixed32_tag(4);
  uint32_t agent_us = 0;
};
#pragma pack(pop)
static_assert(sizeof(SpansInOrder) == kSpansBytes);

bool is_in_order(const SpansInOrder& spans) {
  constexpr SpansInOrder layout;
  return spans.received_tag == layout.received_tag && spans.decompress_tag == layout.decompress_tag &&
         spans.queue_tag == layout.queue_tag && spans.agent_tag == layout.agent_tag;
}

// Its beginning, not cut within a character.
std::string_view shortened(std::string_view text, size_t bytes_max) {
  if (text.size() <= bytes_max) return text;
  size_t size = bytes_max;
  while (size > 0 && (static_cast<uint8_t>(text[size]) & 0xC0) == 0x80) --size;
  return text.substr(0, size);
}

}  // namespace

void encode_error(const Error& error, FieldWriter& writer) {
  writer.bytes_unless_empty(bytes_tag(1), shortened(error.text, kErrorTextBytes));
  writer.bytes_unless_empty(bytes_tag(2), shortened(error.service, limits::name_bytes));
  writer.bytes_unless_empty(bytes_tag(3), shortened(error.hop, limits::name_bytes));
  writer.bytes_unless_empty(bytes_tag(4), shortened(error.stage, limits::name_bytes));
  writer.bytes_unless_empty(bytes_tag(5), shortened(error.rule, limits::name_bytes));
  writer.bytes_unless_empty(bytes_tag(6), shortened(error.hint, kErrorHintBytes));
}

const Fault* decode_error(std::string_view bytes, Error& error) {
  FieldReader reader(as_bytes(bytes));
  while (!reader.done()) {
    uint64_t tag = 0;
    std::string_view text;
    if (!reader.tag(tag)) return &fault::kEnvelopeBroken;
    std::string* field = nullptr;
    switch (tag) {
      case bytes_tag(1):
        field = &error.text;
        break;
      case bytes_tag(2):
        field = &error.service;
        break;
      case bytes_tag(3):
        field = &error.hop;
        break;
      case bytes_tag(4):
        field = &error.stage;
        break;
      case bytes_tag(5):
        field = &error.rule;
        break;
      case bytes_tag(6):
        field = &error.hint;
        break;
      default:
        break;
    }
    if (!(field != nullptr ? reader.bytes(text) : reader.skip(tag))) return &fault::kEnvelopeBroken;
    if (field != nullptr) *field = text;
  }
  return nullptr;
}

void encode_hello(const Hello& hello, FieldWriter& writer) {
  MESH_CHECK(hello.host.size() <= limits::name_bytes && hello.sidecar.size() <= limits::name_bytes);
  writer.number_unless_zero(number_tag(1), hello.version);
  writer.number_unless_zero(number_tag(2), hello.epoch);
  writer.number_unless_zero(number_tag(3), hello.features);
  writer.number_unless_zero(number_tag(4), hello.batch_bytes);
  writer.number_unless_zero(number_tag(5), hello.message_bytes);
  writer.bytes_unless_empty(bytes_tag(6), hello.host);
  writer.bytes_unless_empty(bytes_tag(7), hello.sidecar);
  writer.number_unless_zero(number_tag(8), static_cast<uint64_t>(hello.lane));
  writer.number_unless_zero(number_tag(9), static_cast<uint64_t>(hello.compression));
  writer.number_unless_zero(number_tag(10), hello.link_ns_per_kib);
}

const Fault* decode_hello(std::string_view bytes, Hello& hello) {
  FieldReader reader(as_bytes(bytes));
  uint64_t lane = static_cast<uint64_t>(hello.lane);
  uint64_t compression = static_cast<uint64_t>(hello.compression);
  while (!reader.done()) {
    uint64_t tag = 0;
    uint64_t number = 0;
    std::string_view text;
    if (!reader.tag(tag)) return &fault::kEnvelopeBroken;
    bool is_read = false;
    switch (tag) {
      case number_tag(1):
        is_read = reader.varint(number);
        hello.version = static_cast<uint32_t>(number);
        break;
      case number_tag(2):
        is_read = reader.varint(hello.epoch);
        break;
      case number_tag(3):
        is_read = reader.varint(hello.features);
        break;
      case number_tag(4):
        is_read = reader.varint(hello.batch_bytes);
        break;
      case number_tag(5):
        is_read = reader.varint(hello.message_bytes);
        break;
      case bytes_tag(6):
        is_read = reader.bytes(text);
        hello.host = text;
        break;
      case bytes_tag(7):
        is_read = reader.bytes(text);
        hello.sidecar = text;
        break;
      case number_tag(8):
        is_read = reader.varint(lane);
        break;
      case number_tag(9):
        is_read = reader.varint(compression);
        break;
      case number_tag(10):
        is_read = reader.varint(number);
        hello.link_ns_per_kib = static_cast<uint32_t>(number);
        break;
      default:
        is_read = reader.skip(tag);
    }
    if (!is_read) return &fault::kEnvelopeBroken;
    if (text.size() > limits::name_bytes) return &fault::kName;
  }
  if (static_cast<uint32_t>(lane) > static_cast<uint32_t>(Lane::kBulk)) return &fault::kHello;
  hello.lane = static_cast<Lane>(lane);
  // A wish of a later version: plain is always right.
  const bool is_known = static_cast<uint32_t>(compression) <= static_cast<uint32_t>(CompressionMode::kAlways);
  hello.compression = is_known ? static_cast<CompressionMode>(compression) : CompressionMode::kNever;
  return nullptr;
}

void encode_spans(const CalleeSpans& spans, FieldWriter& writer) {
  const SpansInOrder ordered{.received_us = spans.received_us,
                             .decompress_us = spans.decompress_us,
                             .queue_us = spans.queue_us,
                             .agent_us = spans.agent_us};
  writer.raw({reinterpret_cast<const uint8_t*>(&ordered), sizeof ordered});
}

const Fault* decode_spans(std::string_view bytes, CalleeSpans& spans) {
  if (bytes.size() == sizeof(SpansInOrder)) {
    SpansInOrder ordered;
    std::memcpy(&ordered, bytes.data(), sizeof ordered);
    if (is_in_order(ordered)) {
      spans = {ordered.received_us, ordered.decompress_us, ordered.queue_us, ordered.agent_us};
      return nullptr;
    }
  }
  FieldReader reader(as_bytes(bytes));
  while (!reader.done()) {
    const bool is_read = reader.fixed(fixed64_tag(1), spans.received_us) ||
                         reader.fixed(fixed32_tag(2), spans.decompress_us) ||
                         reader.fixed(fixed32_tag(3), spans.queue_us) || reader.fixed(fixed32_tag(4), spans.agent_us);
    uint64_t tag = 0;
    if (!is_read && !(reader.tag(tag) && reader.skip(tag))) return &fault::kEnvelopeBroken;
  }
  return nullptr;
}

void encode_delivery(const Delivery& delivery, FieldWriter& writer) {
  if (delivery.attempt > 1) writer.number(number_tag(1), delivery.attempt);
  writer.bytes_unless_empty(bytes_tag(2), delivery.key);
  writer.bytes_unless_empty(bytes_tag(3), delivery.caller);
  writer.number_unless_zero(number_tag(4), delivery.is_sensitive ? 1 : 0);
  if (delivery.knowledge != 0) writer.fixed(fixed64_tag(6), delivery.knowledge);
}

const Fault* decode_delivery(std::string_view bytes, Delivery& delivery) {
  FieldReader reader(as_bytes(bytes));
  uint64_t attempt = delivery.attempt;
  while (!reader.done()) {
    if (reader.fixed(fixed64_tag(6), delivery.knowledge)) continue;
    uint64_t tag = 0;
    uint64_t number = 0;
    bool is_read = false;
    if (!reader.tag(tag)) return &fault::kEnvelopeBroken;
    switch (tag) {
      case number_tag(1):
        is_read = reader.varint(attempt);
        break;
      case bytes_tag(2):
        is_read = reader.bytes(delivery.key);
        break;
      case bytes_tag(3):
        is_read = reader.bytes(delivery.caller);
        break;
      case number_tag(4):
        is_read = reader.varint(number);
        delivery.is_sensitive = number != 0;
        break;
      default:
        is_read = reader.skip(tag);
    }
    if (!is_read) return &fault::kEnvelopeBroken;
  }
  if (delivery.key.size() > limits::name_bytes || delivery.caller.size() > limits::caller_bytes) return &fault::kName;
  // A number for people to read: what a later version counts beyond it is as good as the most.
  delivery.attempt = static_cast<uint32_t>(std::clamp<uint64_t>(static_cast<uint32_t>(attempt), 1, UINT8_MAX));
  return nullptr;
}

void encode_validity(const Validity& validity, FieldWriter& writer) {
  if (validity.position != 0) writer.fixed(fixed64_tag(1), validity.position);
  if (!validity.names.empty()) {
    writer.bytes(bytes_tag(2), {reinterpret_cast<const char*>(validity.names.data()), 8 * validity.names.size()});
  }
  writer.number_unless_zero(number_tag(3), validity.is_relayed ? 1 : 0);
}

const Fault* decode_validity(std::string_view bytes, Validity& validity) {
  FieldReader reader(as_bytes(bytes));
  const auto has_room = [&](size_t count) { return count <= limits::purged_names_max - validity.names.size(); };
  while (!reader.done()) {
    uint64_t tag = 0;
    uint64_t name = 0;
    std::string_view packed;
    if (reader.fixed(fixed64_tag(1), validity.position)) continue;
    if (reader.fixed(fixed64_tag(2), name)) {  // not packed: parsers must take both
      if (!has_room(1)) return &fault::kNames;
      validity.names.push_back(name);
      continue;
    }
    if (!reader.tag(tag)) return &fault::kEnvelopeBroken;
    if (tag == number_tag(3)) {
      if (!reader.varint(name)) return &fault::kEnvelopeBroken;
      validity.is_relayed = name != 0;
      continue;
    }
    if (tag != bytes_tag(2)) {
      if (!reader.skip(tag)) return &fault::kEnvelopeBroken;
      continue;
    }
    if (!reader.bytes(packed) || packed.size() % 8 != 0) return &fault::kEnvelopeBroken;
    if (!has_room(packed.size() / 8)) return &fault::kNames;
    const size_t before = validity.names.size();
    validity.names.resize(before + packed.size() / 8);
    if (!packed.empty()) std::memcpy(&validity.names[before], packed.data(), packed.size());
  }
  return nullptr;
}

void encode_kept_mark(const KeptMark& kept, FieldWriter& writer) {
  writer.number_unless_zero(number_tag(1), kept.verdict);
  writer.number_unless_zero(number_tag(2), kept.tier);
  writer.number_unless_zero(number_tag(3), kept.age_ms);
}

const Fault* decode_kept_mark(std::string_view bytes, KeptMark& kept) {
  FieldReader reader(as_bytes(bytes));
  while (!reader.done()) {
    uint64_t tag = 0;
    uint64_t number = 0;
    if (!reader.tag(tag)) return &fault::kEnvelopeBroken;
    uint32_t* const field = tag == number_tag(1)   ? &kept.verdict
                            : tag == number_tag(2) ? &kept.tier
                            : tag == number_tag(3) ? &kept.age_ms
                                                   : nullptr;
    const bool is_read = field != nullptr ? reader.varint(number) : reader.skip(tag);
    if (!is_read) return &fault::kEnvelopeBroken;
    if (field != nullptr) *field = static_cast<uint32_t>(number);
  }
  return nullptr;
}

void encode_standing(const Standing& standing, FieldWriter& writer) {
  MESH_CHECK(standing.service.size() <= limits::name_bytes && standing.model.size() <= limits::name_bytes);
  writer.bytes_unless_empty(bytes_tag(1), standing.service);
  writer.bytes_unless_empty(bytes_tag(2), standing.model);
  writer.number_unless_zero(number_tag(3), standing.wait_us);
  writer.number_unless_zero(number_tag(4), standing.serve_us);
  writer.number_unless_zero(number_tag(5), static_cast<uint64_t>(standing.place));
  writer.number_unless_zero(number_tag(6), standing.usable_in_ms);
  writer.number_unless_zero(number_tag(7), standing.never_fits ? 1 : 0);
  writer.number_unless_zero(number_tag(8), standing.pressure);
  writer.number_unless_zero(number_tag(9), standing.band);
  writer.number_unless_zero(number_tag(10), standing.age_ms);
  writer.number_unless_zero(number_tag(11), standing.at_once);
  writer.number_unless_zero(number_tag(12), standing.free);
}

const Fault* decode_standing(std::string_view bytes, Standing& standing) {
  FieldReader reader(as_bytes(bytes));
  uint64_t place = 0;
  while (!reader.done()) {
    uint64_t tag = 0;
    uint64_t number = 0;
    if (!reader.tag(tag)) return &fault::kEnvelopeBroken;
    bool is_read = false;
    uint32_t* field = nullptr;
    switch (tag) {
      case bytes_tag(1):
        is_read = reader.bytes(standing.service);
        break;
      case bytes_tag(2):
        is_read = reader.bytes(standing.model);
        break;
      case number_tag(5):
        is_read = reader.varint(place);
        break;
      case number_tag(7):
        is_read = reader.varint(number);
        standing.never_fits = number != 0;
        break;
      case number_tag(3):
        field = &standing.wait_us;
        break;
      case number_tag(4):
        field = &standing.serve_us;
        break;
      case number_tag(6):
        field = &standing.usable_in_ms;
        break;
      case number_tag(8):
        field = &standing.pressure;
        break;
      case number_tag(9):
        field = &standing.band;
        break;
      case number_tag(10):
        field = &standing.age_ms;
        break;
      case number_tag(11):
        field = &standing.at_once;
        break;
      case number_tag(12):
        field = &standing.free;
        break;
      default:
        is_read = reader.skip(tag);
    }
    if (field != nullptr) {
      is_read = reader.varint(number);
      *field = static_cast<uint32_t>(number);
    }
    if (!is_read) return &fault::kEnvelopeBroken;
  }
  if (std::max(standing.service.size(), standing.model.size()) > limits::name_bytes) return &fault::kName;
  // A place of a later version: nothing that could be counted on.
  const bool is_known = static_cast<uint32_t>(place) <= static_cast<uint32_t>(ModelPlace::kResident);
  standing.place = is_known ? static_cast<ModelPlace>(place) : ModelPlace::kUnknown;
  return nullptr;
}

}  // namespace mesh::wire
