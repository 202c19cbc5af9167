#include "common/contract/method.h"

#include <simdjson.h>

#include <algorithm>
#include <cstring>

#include "common/base/limits.h"

namespace mesh::contract {
namespace {

namespace ondemand = simdjson::ondemand;

// A new parser is cheaper than one that keeps the memory of a rare large body.
constexpr size_t kKeptBodyBytes = 16 * limits::KiB;

bool is_space(uint8_t byte) { return byte == ' ' || byte == '\t' || byte == '\n' || byte == '\r'; }

ByteView trimmed(ByteView body) {
  while (!body.empty() && is_space(body.front())) body = body.subspan(1);
  while (!body.empty() && is_space(body.back())) body = body.first(body.size() - 1);
  return body;
}

// A name that may stand in logs and be looked up; empty for any other text.
std::string_view name_or_nothing(std::string_view text) {
  const bool is_printable = std::all_of(text.begin(), text.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte >= ' ' && byte != 0x7F;
  });
  return is_printable && text.size() <= limits::name_bytes ? text : std::string_view();
}

bool is_word(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' ||
           c == '.' || c == ':' || c == '/';
  });
}

}  // namespace

struct MethodReader::State {
  std::unique_ptr<ondemand::parser> parser;
  std::vector<char> padded;
  std::string text;  // in which a name out of an escape may lie
  std::string key_text;

  std::string_view in_object(ByteView body, const MethodNaming& naming);
  std::optional<std::string_view> key_in_object(ByteView body, std::string_view field);
  void begin() {
    if (!parser) parser = std::make_unique<ondemand::parser>();
  }
  void end(ByteView body) {
    if (body.size() <= kKeptBodyBytes) return;
    parser.reset();
    padded = {};
  }
  // simdjson reads beyond the end.
  simdjson::padded_string_view with_padding(ByteView body) {
    padded.resize(body.size() + simdjson::SIMDJSON_PADDING);
    std::memcpy(padded.data(), body.data(), body.size());
    std::memset(padded.data() + body.size(), 0, simdjson::SIMDJSON_PADDING);
    return simdjson::padded_string_view(padded.data(), body.size(), padded.size());
  }
};

std::string_view MethodReader::State::in_object(ByteView body, const MethodNaming& naming) {
  ondemand::document document;
  ondemand::object object;
  if (parser->iterate(with_padding(body)).get(document) != simdjson::SUCCESS) return {};
  if (document.get_object().get(object) != simdjson::SUCCESS) return {};
  size_t best = naming.fields.size();
  for (auto field : object) {
    std::string_view key;
    if (field.unescaped_key().get(key) != simdjson::SUCCESS) break;
    const auto at = std::find(naming.fields.begin(), naming.fields.end(), key);
    const auto rank = static_cast<size_t>(at - naming.fields.begin());
    if (rank >= best) continue;
    std::string_view value;
    if (field.value().get_string().get(value) != simdjson::SUCCESS) continue;
    best = rank;
    text = value;
    if (best == 0) break;
  }
  return best < naming.fields.size() ? name_or_nothing(text) : std::string_view();
}

std::optional<std::string_view> MethodReader::State::key_in_object(ByteView body, std::string_view name) {
  ondemand::document document;
  ondemand::object object;
  if (parser->iterate(with_padding(body)).get(document) != simdjson::SUCCESS) return "";
  if (document.get_object().get(object) != simdjson::SUCCESS) return "";
  for (auto field : object) {
    std::string_view key;
    if (field.unescaped_key().get(key) != simdjson::SUCCESS) return "";
    if (key != name) continue;
    ondemand::value value;
    if (field.value().get(value) != simdjson::SUCCESS) return "";
    std::string_view found;
    int64_t number = 0;
    if (value.get_string().get(found) == simdjson::SUCCESS) {
      key_text = found;
    } else if (value.get_int64().get(number) == simdjson::SUCCESS) {
      key_text = std::to_string(number);
    } else {
      return "";
    }
    return name_or_nothing(key_text);
  }
  return std::nullopt;
}

MethodReader::MethodReader() : state_(std::make_unique<State>()) {}
MethodReader::~MethodReader() = default;

std::string_view MethodReader::read(ByteView body, const MethodNaming& naming) {
  if (naming.fields.empty() || body.size() > limits::method_body_bytes) return {};
  body = trimmed(body);
  if (body.empty()) return {};
  if (body.front() != '{') {
    // A bare word, or one in quotes.
    if (body.size() > 2 && body.front() == '"' && body.back() == '"') body = body.subspan(1, body.size() - 2);
    state_->text = as_text(body.first(std::min(body.size(), limits::name_bytes + 1)));
    return is_word(state_->text) ? name_or_nothing(state_->text) : std::string_view();
  }
  state_->begin();
  const std::string_view name = state_->in_object(body, naming);
  state_->end(body);
  return name;
}

std::optional<std::string_view> MethodReader::read_key(ByteView body, std::string_view field) {
  body = trimmed(body);
  if (body.empty() || body.front() != '{') return std::nullopt;
  if (body.size() > limits::key_body_bytes) return "";
  state_->begin();
  const auto key = state_->key_in_object(body, field);
  state_->end(body);
  return key;
}

}  // namespace mesh::contract
