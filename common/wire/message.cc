#include "common/wire/message.h"

#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "common/base/limits.h"
#include "common/wire/field.h"

namespace mesh::wire {
namespace {

using Json = nlohmann::ordered_json;

// Text from anywhere may hold broken UTF-8, which JSON cannot; the broken characters become U+FFFD.
std::string dump(const Json& document) { return document.dump(-1, ' ', false, Json::error_handler_t::replace); }

// The same text with its broken characters replaced.
std::string valid_utf8(const std::string& text) { return Json::parse(dump(text)).get<std::string>(); }

std::string_view text_of(const Error& error) {
  return error.text.empty() ? to_string(error.code) : std::string_view(error.text);
}

Json detail_of(const Error& error) {
  Json detail = {{"service", error.service},
                 {"hop", error.hop},
                 {"stage", error.stage},
                 {"rule", error.rule},
                 {"hint", error.hint}};
  if (!error.not_confirmed.empty()) detail["not_confirmed"] = error.not_confirmed;
  if (!error.call.empty()) detail["call"] = error.call;
  return detail;
}

// A header as it is being read, and the first thing that was wrong with it.
struct HeaderFields {
  MeshHeader header;
  std::string rule;
  std::string text;

  bool refuse(std::string_view field, std::string why) {
    rule = "header_" + std::string(field);
    text = "field \"" + std::string(field) + "\" of the header " + std::move(why);
    return false;
  }
  bool set_name(std::string_view field, std::string_view value, std::string& to) {
    if (value.size() > limits::name_bytes) {
      return refuse(field, "is longer than " + std::to_string(limits::name_bytes) + " bytes");
    }
    to = value;
    return true;
  }
  bool set_key(std::string_view value) {
    // An empty one is no key, and no mistake that may pass for one.
    if (value.empty()) return refuse("idempotency_key", "is empty");
    return set_name("idempotency_key", value, header.key);
  }
  bool set_budget(int64_t budget_ms) {
    if (budget_ms < 1 || budget_ms > limits::budget_ms_max) {
      return refuse("budget_ms", "must be within 1 and " + std::to_string(limits::budget_ms_max));
    }
    header.budget_ms = budget_ms;
    return true;
  }
  Result<MeshHeader> finished() && {
    if (rule.empty() && header.service.empty()) refuse("service", "is missing");
    if (!rule.empty()) return fail(Code::kInvalid, std::move(rule), std::move(text));
    return std::move(header);
  }
};

// Takes the known fields at the top of a JSON object as they go by; nothing is built from the rest of it.
class HeaderSax final : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit HeaderSax(HeaderFields& fields) : fields_(fields) {}

  bool null() override { return true; }  // as if it was not there
  bool boolean(bool) override { return other("a truth value"); }
  bool number_integer(int64_t value) override { return number(value); }
  bool number_unsigned(uint64_t value) override {
    return number(value > static_cast<uint64_t>(INT64_MAX) ? INT64_MAX : static_cast<int64_t>(value));
  }
  bool number_float(double, const std::string&) override { return other("a fraction"); }
  bool binary(nlohmann::json::binary_t&) override { return other("binary"); }

  bool string(std::string& value) override {
    if (!is_top()) return true;
    MeshHeader& header = fields_.header;
    if (key_ == "service") return fields_.set_name(key_, value, header.service);
    if (key_ == "method") return fields_.set_name(key_, value, header.method);
    if (key_ == "id") return fields_.set_name(key_, value, header.id);
    if (key_ == "idempotency_key") return fields_.set_key(value);
    if (key_ == "priority") {
      header.priority = priority_from_name(value);
      return header.priority || fields_.refuse(key_, "must be critical, interactive, normal or batch");
    }
    return key_ != "budget_ms" || fields_.refuse(key_, "must be a whole number, not a string");
  }
  bool start_object(size_t) override { return depth_ == 0 ? enter() : other("an object") && enter(); }
  bool start_array(size_t) override { return other("an array") && enter(); }
  bool end_object() override { return leave(); }
  bool end_array() override { return leave(); }
  bool key(std::string& value) override {
    if (is_top()) key_ = value;
    return true;
  }
  bool parse_error(size_t position, const std::string&, const nlohmann::json::exception&) override {
    fields_.rule = "header_json";
    fields_.text = "the header is not valid JSON near byte " + std::to_string(position);
    return false;
  }

 private:
  bool is_top() const { return depth_ == 1; }
  bool is_known() const {
    return is_top() && (key_ == "service" || key_ == "method" || key_ == "id" || key_ == "idempotency_key" ||
                        key_ == "priority" || key_ == "budget_ms");
  }
  bool other(const char* what) { return !is_known() || fields_.refuse(key_, std::string("must not be ") + what); }
  bool number(int64_t value) {
    if (is_top() && key_ == "budget_ms") return fields_.set_budget(value);
    return other("a number");
  }
  bool enter() {
    if (++depth_ <= limits::json_depth_max) return true;
    fields_.rule = "header_depth";
    fields_.text = "the header is nested more than " + std::to_string(limits::json_depth_max) + " deep";
    return false;
  }
  bool leave() {
    --depth_;
    return true;
  }

  HeaderFields& fields_;
  std::string key_;  // at the top
  size_t depth_ = 0;
};

bool read_protobuf_field(FieldReader& reader, HeaderFields& fields) {
  MeshHeader& header = fields.header;
  uint64_t tag = 0;
  uint64_t number = 0;
  std::string_view text;
  if (!reader.tag(tag)) return false;
  switch (tag) {
    case bytes_tag(1):
      return reader.bytes(text) && fields.set_name("service", text, header.service);
    case bytes_tag(2):
      return reader.bytes(text) && fields.set_name("method", text, header.method);
    case bytes_tag(3):
      return reader.bytes(text) && fields.set_name("id", text, header.id);
    case bytes_tag(6):
      return reader.bytes(text) && fields.set_key(text);
    case number_tag(4):
      return reader.varint(number) && fields.set_budget(static_cast<int64_t>(number));
    case number_tag(5):
      if (!reader.varint(number)) return false;
      if (number > static_cast<uint64_t>(Priority::kBatch)) return fields.refuse("priority", "is unknown");
      header.priority = static_cast<Priority>(number);
      return true;
    default:
      return reader.skip(tag);
  }
}

void read_protobuf(ByteView frame, HeaderFields& fields) {
  FieldReader reader(frame);
  while (!reader.done()) {
    if (read_protobuf_field(reader, fields)) continue;
    if (fields.rule.empty()) {
      fields.rule = "header_protobuf";
      fields.text = "the header is neither JSON nor a mesh.wire.v1.MeshHeader";
    }
    return;
  }
}

std::string encode_json_reply(const MeshHeader& request, Code code, const Error* error, const CacheReport* cache) {
  Json document = {{"id", request.id}, {"code", to_string(code)}};
  if (error != nullptr) {
    document["error"] = text_of(*error);
    document["mesh"] = detail_of(*error);
  }
  if (cache != nullptr) {
    document["cache"] = {{"verdict", cache->verdict}, {"key", key_text(cache->key_high, cache->key_low)}};
    if (!cache->tier.empty()) document["cache"].update({{"tier", cache->tier}, {"age_ms", cache->age_ms}});
  }
  return dump(document);
}

std::string encode_cache(const CacheReport& cache) {
  std::string encoded(3 * (kVarintBytesMax + 1) + cache.verdict.size() + cache.tier.size() + 33, '\0');
  FieldWriter writer(reinterpret_cast<uint8_t*>(encoded.data()));
  writer.bytes_unless_empty(bytes_tag(1), cache.verdict);
  writer.bytes_unless_empty(bytes_tag(2), cache.tier);
  writer.number_unless_zero(number_tag(3), cache.age_ms);
  writer.bytes_unless_empty(bytes_tag(4), key_text(cache.key_high, cache.key_low));
  encoded.resize(static_cast<size_t>(writer.position() - reinterpret_cast<uint8_t*>(encoded.data())));
  return encoded;
}

std::string encode_protobuf_reply(const MeshHeader& request, Code code, const Error* error, const CacheReport* cache) {
  constexpr size_t kTexts = 8;
  std::string texts[kTexts];
  if (error != nullptr) {
    const std::string_view sources[kTexts] = {text_of(*error), error->service, error->hop,  error->stage,
                                              error->rule,     error->hint,    error->call, ""};
    for (size_t i = 0; i < kTexts; ++i) texts[i] = valid_utf8(std::string(sources[i]));
  }
  if (cache != nullptr) texts[7] = encode_cache(*cache);
  size_t size_bound = 2 * kVarintBytesMax + request.id.size() + 2;
  for (const std::string& text : texts) size_bound += kVarintBytesMax + 1 + text.size();

  std::string encoded(size_bound, '\0');
  uint8_t* const begin = reinterpret_cast<uint8_t*>(encoded.data());
  FieldWriter writer(begin);
  writer.bytes_unless_empty(bytes_tag(1), request.id);
  writer.number_unless_zero(number_tag(2), static_cast<uint64_t>(code));
  constexpr uint8_t tags[kTexts] = {bytes_tag(3), bytes_tag(4), bytes_tag(5), bytes_tag(6),
                                    bytes_tag(7), bytes_tag(8), bytes_tag(9), bytes_tag(10)};
  for (size_t i = 0; i < kTexts; ++i) writer.bytes_unless_empty(tags[i], texts[i]);
  encoded.resize(static_cast<size_t>(writer.position() - begin));
  return encoded;
}

}  // namespace

std::string hexadecimal(uint64_t number) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text(16, '0');
  for (size_t i = text.size(); number > 0; number >>= 4) text[--i] = kDigits[number & 0xF];
  return text;
}

std::string key_text(uint64_t high, uint64_t low) { return hexadecimal(high) + hexadecimal(low); }

std::string reply_for(const Error& error) {
  const std::string_view text = text_of(error);
  return dump({{"status", "error"},
               {"error", text},
               {"message", text},
               {"code", to_string(error.code)},
               {"mesh", detail_of(error)}});
}

Result<MeshHeader> decode_mesh_header(ByteView frame) {
  if (frame.size() > limits::mesh_header_bytes) {
    return fail(Code::kInvalid, "header_size",
                "the header is longer than " + std::to_string(limits::mesh_header_bytes) + " bytes");
  }
  HeaderFields fields;
  fields.header.is_json = !frame.empty() && frame.front() == '{';
  if (fields.header.is_json) {
    HeaderSax sax(fields);
    nlohmann::json::sax_parse(frame.begin(), frame.end(), &sax);
  } else {
    read_protobuf(frame, fields);
  }
  return std::move(fields).finished();
}

std::string encode_mesh_reply(const MeshHeader& request, Code code, const Error* error, const CacheReport* cache) {
  return request.is_json ? encode_json_reply(request, code, error, cache)
                         : encode_protobuf_reply(request, code, error, cache);
}

}  // namespace mesh::wire
