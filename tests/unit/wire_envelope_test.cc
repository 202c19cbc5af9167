// The hand-written codec against the classes that protoc generates, in both directions.
#include <doctest/doctest.h>

#include <string>
#include <string_view>
#include <vector>

#include "common/base/limits.h"
#include "common/base/prng.h"
#include "common/wire/envelope_codec.h"
#include "proto/envelope.pb.h"

namespace mesh::wire {
namespace {

static_assert(static_cast<int>(v1::KIND_HELLO) == static_cast<int>(Kind::kHello));
static_assert(static_cast<int>(v1::KIND_PURGED) == static_cast<int>(Kind::kPurged));
static_assert(static_cast<int>(v1::Kind_MAX) == static_cast<int>(Kind::kStanding));
static_assert(static_cast<int>(v1::ModelPlace_MAX) == static_cast<int>(ModelPlace::kResident));
static_assert(static_cast<int>(v1::PRIORITY_BATCH) == static_cast<int>(Priority::kBatch));
static_assert(static_cast<int>(v1::Priority_MAX) == static_cast<int>(Priority::kBatch));
static_assert(static_cast<int>(v1::Code_MAX) == kCodeCount - 1);
static_assert(static_cast<int>(v1::COMPRESSION_ALWAYS) == static_cast<int>(CompressionMode::kAlways));
static_assert(static_cast<int>(v1::LANE_BULK) == static_cast<int>(Lane::kBulk));

std::string encoded(const Envelope& envelope, bool own_frame = false) {
  std::string bytes(encoded_bytes_bound(envelope), '\0');
  uint8_t* const begin = reinterpret_cast<uint8_t*>(bytes.data());
  FieldWriter writer(begin);
  encode_envelope(envelope, own_frame, writer);
  REQUIRE(static_cast<size_t>(writer.position() - begin) <= bytes.size());
  bytes.resize(static_cast<size_t>(writer.position() - begin));
  return bytes;
}

v1::Envelope parsed(const std::string& bytes) {
  v1::Envelope message;
  REQUIRE(message.ParseFromString(bytes));
  return message;
}

v1::Envelope request_message() {
  v1::Envelope message;
  message.set_kind(v1::KIND_REQUEST);
  return message;
}

// Draws values that sit on the edges of varints as often as anywhere else.
class Draw {
 public:
  explicit Draw(uint64_t seed) : prng_(seed) {}
  uint64_t below(uint64_t bound) { return prng_.below(bound); }
  bool coin() { return below(2) == 0; }
  uint64_t number() { return prng_.next() >> below(64); }
  std::string text(size_t size_max) {
    std::string text(below(3) == 0 ? 0 : below(size_max + 1), '\0');
    for (char& c : text) c = static_cast<char>(below(256));
    return text;
  }

 private:
  Prng prng_;
};

v1::Envelope random_message(Draw& draw) {
  v1::Envelope message;
  message.set_kind(static_cast<v1::Kind>(1 + draw.below(11)));
  message.set_call_id(draw.number());
  message.set_service(draw.text(limits::name_bytes));
  message.set_method(draw.text(limits::name_bytes));
  message.set_budget_us(draw.below(static_cast<uint64_t>(limits::budget_ms_max) * 1000 + 1));
  if (draw.coin()) message.set_priority(static_cast<v1::Priority>(draw.below(4)));
  if (message.kind() == v1::KIND_REPLY) message.set_code(static_cast<v1::Code>(draw.below(kCodeCount)));
  if (message.code() != v1::CODE_OK) {
    v1::ErrorDetail* error = message.mutable_error();
    error->set_text(draw.text(500));
    error->set_service(draw.text(100));
    error->set_hop(draw.text(100));
    error->set_stage(draw.text(20));
    error->set_rule(draw.text(20));
    error->set_hint(draw.text(500));
  }
  if (message.kind() == v1::KIND_HELLO) {
    v1::Hello* hello = message.mutable_hello();
    hello->set_version(static_cast<uint32_t>(draw.number()));
    hello->set_epoch(draw.number());
    hello->set_features(draw.number());
    hello->set_batch_bytes(draw.number());
    hello->set_message_bytes(draw.number());
    hello->set_host(draw.text(limits::name_bytes));
    hello->set_sidecar(draw.text(limits::name_bytes));
    hello->set_lane(static_cast<v1::Lane>(draw.below(2)));
    hello->set_compression(static_cast<v1::Compression>(draw.below(3)));
    hello->set_link_ns_per_kib(static_cast<uint32_t>(draw.number()));
  }
  if (message.kind() == v1::KIND_REPLY && draw.coin()) {
    v1::CalleeSpans* spans = message.mutable_spans();
    spans->set_received_us(draw.number());
    spans->set_decompress_us(static_cast<uint32_t>(draw.number()));
    spans->set_queue_us(static_cast<uint32_t>(draw.number()));
    if (draw.coin()) spans->set_agent_us(static_cast<uint32_t>(draw.number()));
  }
  if (message.kind() == v1::KIND_REQUEST && draw.coin()) {
    v1::Delivery* delivery = message.mutable_delivery();
    if (draw.coin()) delivery->set_attempt(2 + static_cast<uint32_t>(draw.below(254)));
    delivery->set_caller(draw.text(limits::caller_bytes));
    delivery->set_sensitive(draw.coin());
    delivery->set_knowledge(draw.number());
    if (draw.coin()) delivery->set_idempotency_key("k" + draw.text(limits::name_bytes - 1));
    if (!delivery->idempotency_key().empty()) message.set_critical(1);
  }
  if (message.kind() == v1::KIND_REPLY && draw.coin()) {
    message.mutable_kept()->set_verdict(static_cast<uint32_t>(draw.number()));
    message.mutable_kept()->set_tier(static_cast<uint32_t>(draw.number()));
    message.mutable_kept()->set_age_ms(static_cast<uint32_t>(draw.number()));
  }
  if (message.kind() == v1::KIND_LEASED || message.kind() == v1::KIND_PURGE) {
    v1::Validity* validity = message.mutable_validity();
    validity->set_position(draw.number());
    for (uint64_t names = draw.below(limits::purged_names_max + 1); names > 0; --names) {
      validity->add_names(draw.number());
    }
    validity->set_relayed(draw.coin());
  }
  if (message.kind() == v1::KIND_REQUEST || message.kind() == v1::KIND_REPLY) {
    uint64_t body_size = draw.below(100'000);
    if (draw.coin()) {
      body_size = 0;
      for (uint64_t parts = draw.below(limits::frames_per_message_max + 1); parts > 0; --parts) {
        message.add_part_sizes(static_cast<uint32_t>(draw.below(50'000)));
        body_size += message.part_sizes(message.part_sizes_size() - 1);
      }
    }
    message.set_body_size(body_size);
    message.set_body_own_frame(draw.coin());
    message.set_body_zstd(message.body_own_frame() && draw.coin());
  }
  return message;
}

void check_same(const DecodedEnvelope& decoded, const v1::Envelope& message) {
  const Envelope& envelope = decoded.envelope;
  CHECK(static_cast<int>(envelope.kind) == static_cast<int>(message.kind()));
  CHECK(envelope.call_id == message.call_id());
  CHECK(envelope.service == message.service());
  CHECK(envelope.method == message.method());
  CHECK(envelope.budget_us == message.budget_us());
  const v1::Priority priority = message.has_priority() ? message.priority() : v1::PRIORITY_NORMAL;
  CHECK(static_cast<int>(envelope.priority) == static_cast<int>(priority));
  CHECK(static_cast<int>(envelope.code) == static_cast<int>(message.code()));
  CHECK(decoded.body_size == message.body_size());
  CHECK(decoded.body_own_frame == message.body_own_frame());
  CHECK(decoded.body_zstd == message.body_zstd());
  CHECK(std::vector<uint32_t>(message.part_sizes().begin(), message.part_sizes().end()) == envelope.part_sizes);
  REQUIRE((envelope.error != nullptr) == (message.kind() == v1::KIND_REPLY && message.code() != v1::CODE_OK));
  if (envelope.error != nullptr) {
    CHECK(envelope.error->code == envelope.code);
    CHECK(envelope.error->text == message.error().text());
    CHECK(envelope.error->service == message.error().service());
    CHECK(envelope.error->hop == message.error().hop());
    CHECK(envelope.error->stage == message.error().stage());
    CHECK(envelope.error->rule == message.error().rule());
    CHECK(envelope.error->hint == message.error().hint());
  }
  REQUIRE((envelope.delivery != nullptr) == message.has_delivery());
  if (envelope.delivery != nullptr) {
    const v1::Delivery& delivery = message.delivery();
    CHECK(envelope.delivery->attempt == std::clamp<uint32_t>(delivery.attempt(), 1, 255));
    CHECK(envelope.delivery->key == delivery.idempotency_key());
    CHECK(envelope.delivery->caller == delivery.caller());
    CHECK(envelope.delivery->is_sensitive == delivery.sensitive());
    CHECK(envelope.delivery->knowledge == delivery.knowledge());
  }
  REQUIRE((envelope.validity != nullptr) == message.has_validity());
  if (envelope.validity != nullptr) {
    const auto& names = message.validity().names();
    CHECK(envelope.validity->position == message.validity().position());
    CHECK(envelope.validity->names == std::vector<uint64_t>(names.begin(), names.end()));
    CHECK(envelope.validity->is_relayed == message.validity().relayed());
  }
  REQUIRE((envelope.kept != nullptr) == message.has_kept());
  if (envelope.kept != nullptr) {
    CHECK(envelope.kept->verdict == message.kept().verdict());
    CHECK(envelope.kept->tier == message.kept().tier());
    CHECK(envelope.kept->age_ms == message.kept().age_ms());
  }
  REQUIRE((envelope.hello != nullptr) == message.has_hello());
  if (envelope.hello != nullptr) {
    CHECK(envelope.hello->version == message.hello().version());
    CHECK(envelope.hello->epoch == message.hello().epoch());
    CHECK(envelope.hello->features == message.hello().features());
    CHECK(envelope.hello->batch_bytes == message.hello().batch_bytes());
    CHECK(envelope.hello->message_bytes == message.hello().message_bytes());
    CHECK(envelope.hello->host == message.hello().host());
    CHECK(envelope.hello->sidecar == message.hello().sidecar());
    CHECK(static_cast<int>(envelope.hello->lane) == static_cast<int>(message.hello().lane()));
    const bool is_known = v1::Compression_IsValid(message.hello().compression());
    const v1::Compression wished = is_known ? message.hello().compression() : v1::COMPRESSION_NEVER;
    CHECK(static_cast<int>(envelope.hello->compression) == static_cast<int>(wished));
    CHECK(envelope.hello->link_ns_per_kib == message.hello().link_ns_per_kib());
  }
  REQUIRE((envelope.spans != nullptr) == message.has_spans());
  if (envelope.spans != nullptr) {
    const v1::CalleeSpans& spans = message.spans();
    CHECK(envelope.spans->received_us == spans.received_us());
    CHECK(envelope.spans->decompress_us == spans.decompress_us());
    CHECK(envelope.spans->queue_us == spans.queue_us());
    CHECK(envelope.spans->agent_us == (spans.has_agent_us() ? spans.agent_us() : CalleeSpans::kAgentNotReached));
  }
}

TEST_CASE("what protoc's class writes is read as the same values") {
  Draw draw(1);
  DecodedEnvelope decoded;  // one for all: nothing of an envelope may remain in the next
  for (int i = 0; i < 3000; ++i) {
    const v1::Envelope message = random_message(draw);
    const std::string bytes = message.SerializeAsString();
    const Fault* broken = decode_envelope(as_bytes(bytes), decoded);
    REQUIRE_MESSAGE(broken == nullptr, (broken == nullptr ? "" : broken->rule));
    check_same(decoded, message);
  }
}

TEST_CASE("what is written here, protoc's class reads as the same values, and would have written it likewise") {
  Draw draw(2);
  DecodedEnvelope decoded;
  for (int i = 0; i < 3000; ++i) {
    v1::Envelope message = random_message(draw);
    const std::string bytes = message.SerializeAsString();
    REQUIRE(decode_envelope(as_bytes(bytes), decoded) == nullptr);
    Envelope envelope = decoded.envelope;
    envelope.body =
        Slice(BlockRef(), reinterpret_cast<const uint8_t*>(bytes.data()), message.body_size());  // only its size counts

    const std::string written = encoded(envelope, message.body_own_frame());
    const v1::Envelope reread = parsed(written);
    DecodedEnvelope again;
    REQUIRE(decode_envelope(as_bytes(written), again) == nullptr);
    check_same(again, reread);
    message.clear_body_zstd();
    if (message.has_spans() && !message.spans().has_agent_us()) {
      message.mutable_spans()->set_agent_us(CalleeSpans::kAgentNotReached);  // here always written
    }
    if (message.priority() == v1::PRIORITY_NORMAL) message.clear_priority();  // its default here
    CHECK(reread.SerializeAsString() == message.SerializeAsString());
    if (!message.body_own_frame()) CHECK(written == message.SerializeAsString());
  }
}

TEST_CASE("bytes flipped at random never give values that protoc's class would not have read") {
  Draw draw(3);
  DecodedEnvelope decoded;
  int accepted = 0;
  for (int i = 0; i < 20000; ++i) {
    std::string bytes = random_message(draw).SerializeAsString();
    for (uint64_t flips = 1 + draw.below(3); flips > 0; --flips) {
      bytes[draw.below(bytes.size())] = static_cast<char>(draw.below(256));
    }
    if (draw.coin()) bytes.resize(draw.below(bytes.size() + 1));
    if (decode_envelope(as_bytes(bytes), decoded) != nullptr || decoded.envelope.needs_unknown) continue;
    ++accepted;
    v1::Envelope message;
    REQUIRE(message.ParseFromString(bytes));
    check_same(decoded, message);
  }
  CHECK(accepted > 1000);  // else this test would look at nothing
}

TEST_CASE("the flag for a compressed body is the last byte of an envelope whose body has its own frame") {
  Envelope envelope;
  envelope.service = "tts";
  const std::string body(5000, 'x');
  envelope.body = Slice::copy_of(body);
  envelope.part_sizes = {2000, 3000};
  std::string bytes = encoded(envelope, true);
  CHECK_FALSE(parsed(bytes).body_zstd());
  bytes.back() = 1;
  CHECK(parsed(bytes).body_zstd());
  CHECK(parsed(bytes).body_size() == 5000);
}

TEST_CASE("standings are what protobuf reads and writes, as many as an envelope takes") {
  Draw draw(11);
  for (int round = 0; round < 500; ++round) {
    std::vector<std::string> names;
    std::vector<Standing> standings(draw.below(limits::standings_max + 1));
    for (size_t i = 0; i < 2 * standings.size(); ++i) names.push_back(draw.text(limits::name_bytes));
    for (size_t i = 0; i < standings.size(); ++i) {
      standings[i] = {.service = names[2 * i],
                      .model = names[2 * i + 1],
                      .wait_us = static_cast<uint32_t>(draw.number()),
                      .serve_us = static_cast<uint32_t>(draw.number()),
                      .place = static_cast<ModelPlace>(draw.below(6)),
                      .usable_in_ms = static_cast<uint32_t>(draw.number()),
                      .never_fits = draw.coin(),
                      .pressure = static_cast<uint32_t>(draw.below(3)),
                      .band = static_cast<uint32_t>(draw.below(4)),
                      .age_ms = static_cast<uint32_t>(draw.number()),
                      .at_once = static_cast<uint32_t>(draw.number()),
                      .free = static_cast<uint32_t>(draw.number())};
    }
    const Envelope envelope{.kind = Kind::kStanding, .standings = &standings};
    const std::string bytes = encoded(envelope);
    const v1::Envelope message = parsed(bytes);
    DecodedEnvelope decoded;
    const std::string written = message.SerializeAsString();
    REQUIRE(decode_envelope(as_bytes(written), decoded) == nullptr);
    REQUIRE(static_cast<size_t>(message.standings_size()) == standings.size());
    REQUIRE(decoded.standings.size() == standings.size() * (standings.empty() ? 0 : 1));
    for (size_t i = 0; i < standings.size(); ++i) {
      const v1::Standing& read = message.standings(static_cast<int>(i));
      CHECK(read.service() == names[2 * i]);
      CHECK(read.model() == names[2 * i + 1]);
      CHECK(read.wait_us() == standings[i].wait_us);
      CHECK(read.usable_in_ms() == standings[i].usable_in_ms);
      const Standing& back = decoded.standings[i];
      CHECK(back.service == names[2 * i]);
      CHECK(back.model == names[2 * i + 1]);
      CHECK(back.wait_us == standings[i].wait_us);
      CHECK(back.serve_us == standings[i].serve_us);
      CHECK(back.place == standings[i].place);
      CHECK(back.usable_in_ms == standings[i].usable_in_ms);
      CHECK(back.never_fits == standings[i].never_fits);
      CHECK(back.pressure == standings[i].pressure);
      CHECK(back.band == standings[i].band);
      CHECK(back.age_ms == standings[i].age_ms);
      CHECK(back.at_once == standings[i].at_once);
      CHECK(back.free == standings[i].free);
    }
  }
}

TEST_CASE("a place of a later version is one that is not known") {
  v1::Envelope message;
  message.set_kind(v1::KIND_STANDING);
  message.add_standings()->set_place(static_cast<v1::ModelPlace>(77));
  const std::string bytes = message.SerializeAsString();
  DecodedEnvelope decoded;
  REQUIRE(decode_envelope(as_bytes(bytes), decoded) == nullptr);
  CHECK(decoded.standings.at(0).place == ModelPlace::kUnknown);
}

TEST_CASE("fields of a later version are skipped, whatever their type") {
  std::string bytes = request_message().SerializeAsString();
  bytes += std::string("\xA8\x07\x07", 3);           // field 117, varint
  bytes += std::string("\xA9\x07", 2) + "12345678";  // field 117, 64 bits
  bytes += std::string("\xB2\x07\x03", 3) + "abc";   // field 118, bytes
  bytes += std::string("\xBD\x07", 2) + "1234";      // field 119, 32 bits
  bytes += std::string("\x10\x05", 2);               // call_id
  DecodedEnvelope decoded;
  REQUIRE(decode_envelope(as_bytes(bytes), decoded) == nullptr);
  CHECK(decoded.envelope.call_id == 5);
}

TEST_CASE("a reply that failed without saying why still gives an error with its code") {
  v1::Envelope message;
  message.set_kind(v1::KIND_REPLY);
  message.set_code(v1::CODE_DRAINING);
  DecodedEnvelope decoded;
  const std::string bytes = message.SerializeAsString();
  REQUIRE(decode_envelope(as_bytes(bytes), decoded) == nullptr);
  REQUIRE(decoded.envelope.error != nullptr);
  CHECK(decoded.envelope.error->code == Code::kDraining);
}

TEST_CASE("an error of any length fits into an envelope, cut between characters") {
  Error error;
  error.code = Code::kInternal;
  error.text = std::string(2047, 'a') + "ä" + std::string(50'000, 'b');
  error.hop = std::string(5000, 'h');
  error.hint = std::string(1 << 20, 'c');
  Envelope envelope;
  envelope.kind = Kind::kReply;
  envelope.code = error.code;
  envelope.error = &error;
  const std::string bytes = encoded(envelope);
  CHECK(bytes.size() <= limits::envelope_bytes);
  DecodedEnvelope decoded;
  REQUIRE(decode_envelope(as_bytes(bytes), decoded) == nullptr);
  CHECK(decoded.error.text == std::string(2047, 'a'));
  CHECK(decoded.error.hop == std::string(limits::name_bytes, 'h'));
}

}  // namespace
}  // namespace mesh::wire
