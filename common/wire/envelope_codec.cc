#include "common/wire/envelope_codec.h"

#include <algorithm>

#include "common/base/check.h"
#include "common/base/limits.h"
#include "common/wire/envelope_parts.h"

namespace mesh::wire {
namespace {

// Features that may not be ignored: who does not keep idempotency keys must not execute a call that has one.
constexpr uint32_t kCriticalKeys = 1;
constexpr uint32_t kCriticalKnown = kCriticalKeys;

constexpr uint64_t kBudgetUsMax = static_cast<uint64_t>(limits::budget_ms_max) * 1000;

// Tags, lengths and numbers of all flat fields, each at its longest.
constexpr size_t kFlatBytesMax = 64 + 2 + kSpansBytes;
constexpr size_t kPartBytesMax = 5;
static_assert(kFlatBytesMax + kPartBytesMax * limits::frames_per_message_max + kHelloBytesMax + kErrorBytesMax +
                      std::max(kDeliveryBytesMax, kValidityBytesMax) + kKeptMarkBytesMax + kStandingBytesMax +
                      2 * limits::name_bytes <=
                  limits::envelope_bytes,
              "what is written here must be accepted at the other end");
static_assert(kFlatBytesMax + limits::standings_max * (4 + kStandingBytesMax) <= limits::envelope_bytes);

namespace tag {

constexpr uint8_t kKind = number_tag(1);
constexpr uint8_t kCallId = number_tag(2);
constexpr uint8_t kService = bytes_tag(3);
constexpr uint8_t kMethod = bytes_tag(4);
constexpr uint8_t kBudgetUs = number_tag(5);
constexpr uint8_t kPriority = number_tag(6);
constexpr uint8_t kCode = number_tag(7);
constexpr uint8_t kError = bytes_tag(8);
constexpr uint8_t kBodySize = number_tag(9);
constexpr uint8_t kBodyOwnFrame = number_tag(10);
constexpr uint8_t kBodyZstd = number_tag(11);
constexpr uint8_t kPartSizes = bytes_tag(12);
constexpr uint8_t kPartSize = number_tag(12);  // not packed: parsers must take both
constexpr uint8_t kHello = bytes_tag(13);
constexpr uint8_t kCritical = number_tag(14);
constexpr uint8_t kSpans = bytes_tag(15);
constexpr uint64_t kDelivery = wide_bytes_tag(16);
constexpr uint64_t kValidity = wide_bytes_tag(17);
constexpr uint64_t kKept = wide_bytes_tag(18);
constexpr uint64_t kStanding = wide_bytes_tag(19);

}  // namespace tag

uint64_t sum_of(const std::vector<uint32_t>& sizes) {
  uint64_t sum = 0;
  for (const uint32_t size : sizes) sum += size;
  return sum;
}

const Fault* decode_part_sizes(std::string_view packed, std::vector<uint32_t>& sizes) {
  FieldReader reader(as_bytes(packed));
  while (!reader.done()) {
    uint64_t size = 0;
    if (!reader.varint(size)) return &fault::kEnvelopeBroken;
    if (sizes.size() == limits::frames_per_message_max) return &fault::kParts;
    sizes.push_back(static_cast<uint32_t>(size));
  }
  return nullptr;
}

// A new one is empty, but keeps the memory of the last.
void reset(DecodedEnvelope& decoded) {
  Envelope& envelope = decoded.envelope;
  std::vector<uint32_t> part_sizes = std::move(envelope.part_sizes);
  part_sizes.clear();
  envelope = Envelope();
  envelope.part_sizes = std::move(part_sizes);
  decoded.body_size = 0;
  decoded.body_own_frame = false;
  decoded.body_zstd = false;
}

// Numbers whose meaning is judged only after all fields were read: the last one of a kind counts.
struct Numbers {
  uint64_t kind = 0;
  uint64_t priority = static_cast<uint64_t>(Priority::kNormal);
  uint64_t code = 0;
  uint64_t critical = 0;
  bool has_error = false;
};

// Enumerations and uint32 are the low 32 bits of their varint, as protobuf has it.
uint32_t low(uint64_t number) { return static_cast<uint32_t>(number); }

const Fault* read_fields(ByteView bytes, DecodedEnvelope& decoded, Numbers& numbers) {
  Envelope& envelope = decoded.envelope;
  FieldReader reader(bytes);
  while (!reader.done()) {
    uint64_t tag = 0;
    uint64_t number = 0;
    std::string_view nested;
    const Fault* broken = nullptr;
    bool is_read = false;
    if (!reader.tag(tag)) return &fault::kEnvelopeBroken;
    switch (tag) {
      case tag::kKind:
        is_read = reader.varint(numbers.kind);
        break;
      case tag::kCallId:
        is_read = reader.varint(envelope.call_id);
        break;
      case tag::kService:
        is_read = reader.bytes(envelope.service);
        break;
      case tag::kMethod:
        is_read = reader.bytes(envelope.method);
        break;
      case tag::kBudgetUs:
        is_read = reader.varint(envelope.budget_us);
        break;
      case tag::kPriority:
        is_read = reader.varint(numbers.priority);
        break;
      case tag::kCode:
        is_read = reader.varint(numbers.code);
        break;
      case tag::kBodySize:
        is_read = reader.varint(decoded.body_size);
        break;
      case tag::kCritical:
        is_read = reader.varint(numbers.critical);
        break;
      case tag::kBodyOwnFrame:
        is_read = reader.varint(number);
        decoded.body_own_frame = number != 0;
        break;
      case tag::kBodyZstd:
        is_read = reader.varint(number);
        decoded.body_zstd = number != 0;
        break;
      case tag::kPartSizes:
        is_read = reader.bytes(nested);
        broken = decode_part_sizes(nested, envelope.part_sizes);
        break;
      case tag::kPartSize:
        is_read = reader.varint(number);
        if (envelope.part_sizes.size() == limits::frames_per_message_max) return &fault::kParts;
        envelope.part_sizes.push_back(low(number));
        break;
      case tag::kError:
        is_read = reader.bytes(nested);
        if (!numbers.has_error) decoded.error = Error();
        numbers.has_error = true;
        broken = decode_error(nested, decoded.error);
        break;
      case tag::kHello:
        is_read = reader.bytes(nested);
        if (envelope.hello == nullptr) decoded.hello = Hello{.version = 0, .host = {}, .sidecar = {}};
        envelope.hello = &decoded.hello;
        broken = decode_hello(nested, decoded.hello);
        break;
      case tag::kSpans:
        is_read = reader.bytes(nested);
        if (envelope.spans == nullptr) decoded.spans = CalleeSpans();
        envelope.spans = &decoded.spans;
        broken = decode_spans(nested, decoded.spans);
        break;
      case tag::kDelivery:
        is_read = reader.bytes(nested);
        if (envelope.delivery == nullptr) decoded.delivery = Delivery();
        envelope.delivery = &decoded.delivery;
        broken = decode_delivery(nested, decoded.delivery);
        break;
      case tag::kValidity:
        is_read = reader.bytes(nested);
        if (envelope.validity == nullptr) decoded.validity = Validity();
        envelope.validity = &decoded.validity;
        broken = decode_validity(nested, decoded.validity);
        break;
      case tag::kKept:
        is_read = reader.bytes(nested);
        if (envelope.kept == nullptr) decoded.kept = KeptMark();
        envelope.kept = &decoded.kept;
        broken = decode_kept_mark(nested, decoded.kept);
        break;
      case tag::kStanding:
        is_read = reader.bytes(nested);
        if (envelope.standings == nullptr) decoded.standings.clear();
        envelope.standings = &decoded.standings;
        if (decoded.standings.size() == limits::standings_max) return &fault::kStandings;
        broken = decode_standing(nested, decoded.standings.emplace_back());
        break;
      default:
        is_read = reader.skip(tag);
    }
    if (!is_read) return &fault::kEnvelopeBroken;
    if (broken != nullptr) return broken;
  }
  return nullptr;
}

const Fault* judge_body(const DecodedEnvelope& decoded) {
  const Envelope& envelope = decoded.envelope;
  const bool may_have_body = envelope.kind == Kind::kRequest || envelope.kind == Kind::kReply;
  if (!may_have_body && (decoded.body_size != 0 || decoded.body_own_frame)) return &fault::kBodyUnexpected;
  if (decoded.body_size > limits::message_bytes) return &fault::kBodyTooLarge;
  if (decoded.body_zstd && !decoded.body_own_frame) return &fault::kBodyZstd;
  if (envelope.part_sizes.empty()) return nullptr;
  return sum_of(envelope.part_sizes) == decoded.body_size ? nullptr : &fault::kParts;
}

}  // namespace

size_t encoded_bytes_bound(const Envelope& envelope) {
  size_t bound = kFlatBytesMax + envelope.service.size() + envelope.method.size();
  bound += kPartBytesMax * envelope.part_sizes.size();
  if (envelope.error != nullptr) bound += kErrorBytesMax;
  if (envelope.hello != nullptr) bound += kHelloBytesMax;
  if (envelope.delivery != nullptr) bound += kDeliveryBytesMax;
  if (envelope.validity != nullptr) bound += kValidityBytesMax;
  if (envelope.kept != nullptr) bound += kKeptMarkBytesMax;
  if (envelope.standings != nullptr) bound += envelope.standings->size() * (4 + kStandingBytesMax);
  return bound;
}

void encode_envelope(const Envelope& envelope, bool body_own_frame, FieldWriter& writer) {
  MESH_CHECK(envelope.service.size() <= limits::name_bytes && envelope.method.size() <= limits::name_bytes);
  MESH_CHECK(envelope.part_sizes.size() <= limits::frames_per_message_max);
  MESH_CHECK(envelope.part_sizes.empty() || sum_of(envelope.part_sizes) == envelope.body.size());
  writer.number(tag::kKind, static_cast<uint64_t>(envelope.kind));
  writer.number_unless_zero(tag::kCallId, envelope.call_id);
  writer.bytes_unless_empty(tag::kService, envelope.service);
  writer.bytes_unless_empty(tag::kMethod, envelope.method);
  writer.number_unless_zero(tag::kBudgetUs, std::min(envelope.budget_us, kBudgetUsMax));
  if (envelope.priority != Priority::kNormal) writer.number(tag::kPriority, static_cast<uint64_t>(envelope.priority));
  writer.number_unless_zero(tag::kCode, static_cast<uint64_t>(envelope.code));
  if (envelope.error != nullptr) {
    writer.tag(tag::kError);
    writer.with_length([&] { encode_error(*envelope.error, writer); });
  }
  writer.number_unless_zero(tag::kBodySize, envelope.body.size());
  if (!envelope.part_sizes.empty()) {
    writer.tag(tag::kPartSizes);
    writer.with_length([&] {
      for (const uint32_t size : envelope.part_sizes) writer.varint(size);
    });
  }
  if (envelope.hello != nullptr) {
    writer.tag(tag::kHello);
    writer.with_length([&] { encode_hello(*envelope.hello, writer); });
  }
  if (envelope.spans != nullptr) {
    writer.tag(tag::kSpans);
    writer.varint(kSpansBytes);
    encode_spans(*envelope.spans, writer);
  }
  if (envelope.delivery != nullptr) {
    const Delivery& delivery = *envelope.delivery;
    MESH_CHECK(delivery.key.size() <= limits::name_bytes && delivery.caller.size() <= limits::caller_bytes);
    if (!delivery.key.empty()) writer.number(tag::kCritical, kCriticalKeys);
    writer.varint(tag::kDelivery);
    writer.with_length([&] { encode_delivery(delivery, writer); });
  }
  if (envelope.validity != nullptr) {
    MESH_CHECK(envelope.validity->names.size() <= limits::purged_names_max);
    writer.varint(tag::kValidity);
    writer.with_length([&] { encode_validity(*envelope.validity, writer); });
  }
  if (envelope.kept != nullptr) [[unlikely]] {
    writer.varint(tag::kKept);
    writer.with_length([&] { encode_kept_mark(*envelope.kept, writer); });
  }
  if (envelope.standings != nullptr) [[unlikely]] {
    MESH_CHECK(envelope.standings->size() <= limits::standings_max);
    for (const Standing& standing : *envelope.standings) {
      writer.varint(tag::kStanding);
      writer.with_length([&] { encode_standing(standing, writer); });
    }
  }
  if (body_own_frame) {
    writer.number(tag::kBodyOwnFrame, 1);
    writer.number(tag::kBodyZstd, 0);
  }
}

const Fault* decode_envelope(ByteView bytes, DecodedEnvelope& decoded) {
  reset(decoded);
  Envelope& envelope = decoded.envelope;
  Numbers numbers;
  if (const Fault* broken = read_fields(bytes, decoded, numbers)) return broken;

  const uint32_t kind = low(numbers.kind);
  // An unknown feature may change the meaning of the rest. Of a request it is enough to say so.
  envelope.needs_unknown = (low(numbers.critical) & ~kCriticalKnown) != 0;
  if (envelope.needs_unknown && kind != static_cast<uint32_t>(Kind::kRequest)) return &fault::kUnknownCritical;
  if (kind < static_cast<uint32_t>(Kind::kHello) || kind > static_cast<uint32_t>(Kind::kStanding)) return &fault::kKind;
  envelope.kind = static_cast<Kind>(kind);
  if (envelope.needs_unknown) return judge_body(decoded);
  if (low(numbers.priority) > static_cast<uint32_t>(Priority::kBatch)) return &fault::kPriority;
  envelope.priority = static_cast<Priority>(numbers.priority);
  if (low(numbers.code) >= static_cast<uint32_t>(kCodeCount)) return &fault::kCode;
  envelope.code = static_cast<Code>(numbers.code);
  if (std::max(envelope.service.size(), envelope.method.size()) > limits::name_bytes) return &fault::kName;
  if (envelope.budget_us > kBudgetUsMax) return &fault::kBudget;
  if ((envelope.kind == Kind::kHello) != (envelope.hello != nullptr)) return &fault::kHello;
  const bool tells_validity = envelope.kind == Kind::kLeased || envelope.kind == Kind::kPurge;
  if (tells_validity && envelope.validity == nullptr) return &fault::kValidity;

  if (envelope.kind == Kind::kReply && envelope.code != Code::kOk) {
    if (!numbers.has_error) decoded.error = Error();
    decoded.error.code = envelope.code;
    envelope.error = &decoded.error;
  }
  return judge_body(decoded);
}

}  // namespace mesh::wire
