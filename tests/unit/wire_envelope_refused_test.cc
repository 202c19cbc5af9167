// Envelopes that are refused, each with the rule that it breaks.
#include <doctest/doctest.h>

#include <string>

#include "common/base/limits.h"
#include "common/wire/envelope_codec.h"
#include "proto/envelope.pb.h"

namespace mesh::wire {
namespace {

// The rule that bytes break, "" if none.
std::string broken_rule(const std::string& bytes) {
  DecodedEnvelope decoded;
  const Fault* broken = decode_envelope(as_bytes(bytes), decoded);
  return broken == nullptr ? "" : broken->rule;
}

std::string broken_rule(const v1::Envelope& message) { return broken_rule(message.SerializeAsString()); }

v1::Envelope request_message() {
  v1::Envelope message;
  message.set_kind(v1::KIND_REQUEST);
  return message;
}

TEST_CASE("groups, which could nest for ever, are refused") {
  const std::string bytes = request_message().SerializeAsString() + std::string("\x83\x01\x84\x01", 4);
  CHECK(broken_rule(bytes) == "envelope_broken");
}

TEST_CASE("more standings than an envelope takes, or names that are too long, are refused") {
  v1::Envelope message;
  message.set_kind(v1::KIND_STANDING);
  for (size_t i = 0; i < limits::standings_max; ++i) message.add_standings()->set_model("m");
  CHECK(broken_rule(message) == "");
  message.add_standings();
  CHECK(broken_rule(message) == "standings");
  message.clear_standings();
  message.add_standings()->set_service(std::string(limits::name_bytes + 1, 's'));
  CHECK(broken_rule(message) == "name_too_long");
}

TEST_CASE("a feature that must not be ignored is refused before anything else is judged") {
  v1::Envelope message = request_message();
  message.set_critical(1U << 31);
  message.set_kind(static_cast<v1::Kind>(99));
  CHECK(broken_rule(message) == "unknown_critical");
}

TEST_CASE("a request that needs an unknown feature is read so far that it can be told so") {
  v1::Envelope message = request_message();
  message.set_critical(1U << 31);
  message.set_priority(static_cast<v1::Priority>(9));  // may be a priority there
  DecodedEnvelope decoded;
  const std::string bytes = message.SerializeAsString();
  REQUIRE(decode_envelope(as_bytes(bytes), decoded) == nullptr);
  CHECK(decoded.envelope.needs_unknown);
  CHECK(decoded.envelope.call_id == message.call_id());
  CHECK(decoded.body_size == message.body_size());
}

TEST_CASE("numbers outside their closed sets are refused by name") {
  v1::Envelope message;
  CHECK(broken_rule(message) == "kind");
  message.set_kind(static_cast<v1::Kind>(v1::Kind_MAX + 1));
  CHECK(broken_rule(message) == "kind");
  message = request_message();
  message.set_priority(static_cast<v1::Priority>(4));
  CHECK(broken_rule(message) == "priority");
  message = request_message();
  message.set_code(static_cast<v1::Code>(kCodeCount));
  CHECK(broken_rule(message) == "code");
  message = v1::Envelope();
  message.set_kind(v1::KIND_HELLO);
  CHECK(broken_rule(message) == "hello");
  message.mutable_hello()->set_lane(static_cast<v1::Lane>(2));
  CHECK(broken_rule(message) == "hello");
  message.mutable_hello()->set_lane(v1::LANE_BULK);
  CHECK(broken_rule(message) == "");
}

TEST_CASE("a budget and a name may be as long as the limit and not a bit longer") {
  v1::Envelope message = request_message();
  message.set_budget_us(static_cast<uint64_t>(limits::budget_ms_max) * 1000);
  message.set_service(std::string(limits::name_bytes, 's'));
  CHECK(broken_rule(message) == "");
  message.set_budget_us(message.budget_us() + 1);
  CHECK(broken_rule(message) == "budget");
  message.set_budget_us(0);
  message.set_method(std::string(limits::name_bytes + 1, 'm'));
  CHECK(broken_rule(message) == "name_too_long");
  message = v1::Envelope();
  message.set_kind(v1::KIND_HELLO);
  message.mutable_hello()->set_host(std::string(limits::name_bytes + 1, 'h'));
  CHECK(broken_rule(message) == "name_too_long");
}

TEST_CASE("parts that do not sum up to the body, or are too many, are refused") {
  v1::Envelope message = request_message();
  message.set_body_size(10);
  message.add_part_sizes(4);
  CHECK(broken_rule(message) == "parts");
  message.add_part_sizes(6);
  CHECK(broken_rule(message) == "");
  while (message.part_sizes_size() < static_cast<int>(limits::frames_per_message_max)) message.add_part_sizes(0);
  CHECK(broken_rule(message) == "");
  message.add_part_sizes(0);
  CHECK(broken_rule(message) == "parts");
  // Two that sum up to 10 only if the sum overflows 32 bits.
  message.clear_part_sizes();
  message.add_part_sizes(0xFFFFFFFF);
  message.add_part_sizes(11);
  CHECK(broken_rule(message) == "parts");
}

TEST_CASE("only requests and replies have bodies, of a bounded size, and inline ones no compression of their own") {
  v1::Envelope message;
  message.set_kind(v1::KIND_PING);
  message.set_body_size(1);
  CHECK(broken_rule(message) == "body_unexpected");
  message = request_message();
  message.set_body_size(limits::message_bytes);
  CHECK(broken_rule(message) == "");
  message.set_body_size(limits::message_bytes + 1);
  CHECK(broken_rule(message) == "body_too_large");
  message.set_body_size(1);
  message.set_body_zstd(true);
  CHECK(broken_rule(message) == "body_zstd");
}

TEST_CASE("an envelope that is to say what became wrong says so, of a bounded number") {
  v1::Envelope message;
  for (const v1::Kind kind : {v1::KIND_LEASED, v1::KIND_PURGE}) {
    message.set_kind(kind);
    message.clear_validity();
    CHECK(broken_rule(message) == "validity");
    v1::Validity* validity = message.mutable_validity();
    while (validity->names_size() < static_cast<int>(limits::purged_names_max)) validity->add_names(7);
    CHECK(broken_rule(message) == "");
    validity->add_names(7);
    CHECK(broken_rule(message) == "names");
  }
}

}  // namespace
}  // namespace mesh::wire
