#include "common/contract/method.h"

#include <simdjson.h>

#include <algorithm>
#include <charconv>
#include <cstring>

#include "common/base/limits.h"
#include "common/contract/json_members.h"

namespace mesh::contract {
namespace {

namespace ondemand = simdjson::ondemand;

// A name with every byte escaped is not longer.
constexpr size_t kNameTokenBytes = 8 * limits::name_bytes;

bool is_space(uint8_t byte) { return byte == ' ' || byte == '\t' || byte == '\n' || byte == '\r'; }

ByteView trimmed(ByteView body) {
  while (!body.empty() && is_space(body.front())) body = body.subspan(1);
  while (!body.empty() && is_space(body.back())) body = body.first(body.size() - 1);
  return body;
}

// A name that may stand in logs and be looked up; empty for any other text.
std::string_view name_or_nothing(std::string_view text) {
  if (text.size() > limits::name_bytes) return {};
  const bool is_printable = std::all_of(text.begin(), text.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte >= ' ' && byte != 0x7F;
  });
  return is_printable && simdjson::validate_utf8(text.data(), text.size()) ? text : std::string_view();
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
  std::string text;  // in which a name lies
  std::string key_text;
  std::string unescaped;

  // What stands between two quotes; nothing if it is longer than a name, or no text.
  std::optional<std::string_view> unescape(std::string_view token) {
    if (token.size() > kNameTokenBytes) return std::nullopt;
    if (token.find('\\') == std::string_view::npos) return token;
    // simdjson reads beyond the end.
    padded.assign(token.size() + 2 + simdjson::SIMDJSON_PADDING, '\0');
    padded.front() = padded[token.size() + 1] = '"';
    std::memcpy(padded.data() + 1, token.data(), token.size());
    if (!parser) parser = std::make_unique<ondemand::parser>();
    ondemand::document document;
    std::string_view found;
    const simdjson::padded_string_view view(padded.data(), token.size() + 2, padded.size());
    if (parser->iterate(view).get(document) != simdjson::SUCCESS) return std::nullopt;
    if (document.get_string().get(found) != simdjson::SUCCESS) return std::nullopt;
    return unescaped = found;
  }
  std::string_view in_object(std::string_view object, const MethodNaming& naming);
  std::optional<std::string_view> key_in_object(std::string_view object, std::string_view field);
};

std::string_view MethodReader::State::in_object(std::string_view object, const MethodNaming& naming) {
  JsonMembers members(object);
  JsonMembers::Member member;
  size_t best = naming.fields.size();
  std::string_view token;
  while (best > 0 && members.next(member)) {
    const auto name = unescape(member.name);
    if (!name || member.value.front() != '"') continue;
    const auto at = std::find(naming.fields.begin(), naming.fields.begin() + static_cast<std::ptrdiff_t>(best), *name);
    const auto rank = static_cast<size_t>(at - naming.fields.begin());
    if (rank < best) best = rank, token = member.value;
  }
  if (members.is_broken()) return kUnreadableMethod;
  if (best == naming.fields.size()) return {};
  token = token.substr(1, token.size() - 2);
  const auto name = unescape(token);
  if (!name && token.size() <= kNameTokenBytes) return kUnreadableMethod;
  text = name ? name_or_nothing(*name) : std::string_view();
  return text;
}

std::optional<std::string_view> MethodReader::State::key_in_object(std::string_view object, std::string_view field) {
  JsonMembers members(object);
  JsonMembers::Member member;
  while (members.next(member)) {
    const auto name = unescape(member.name);
    if (!name || *name != field) continue;
    const std::string_view value = member.value;
    if (value.front() == '"') {
      const auto found = unescape(value.substr(1, value.size() - 2));
      key_text = found ? name_or_nothing(*found) : std::string_view();
      return key_text;
    }
    int64_t number = 0;
    std::from_chars(value.data(), value.data() + value.size(), number);
    key_text = std::to_string(number);
    return key_text == value ? key_text : std::string_view();
  }
  return members.is_broken() ? std::optional<std::string_view>("") : std::nullopt;
}

namespace {

// Of a body of several frames the one that is a JSON object; null if none is.
const Slice* object_among(std::span<const Slice> frames, bool& is_ambiguous) {
  const Slice* found = nullptr;
  for (const Slice& frame : frames) {
    const ByteView text = trimmed(frame.view());
    if (text.empty() || text.front() != '{') continue;
    is_ambiguous = found != nullptr;
    found = &frame;
    if (is_ambiguous) break;
  }
  return found;
}

}  // namespace

MethodReader::MethodReader() : state_(std::make_unique<State>()) {}
MethodReader::~MethodReader() = default;

std::string_view MethodReader::read(ByteView body, const MethodNaming& naming) {
  if (naming.fields.empty()) return {};
  body = trimmed(body);
  if (body.empty()) return {};
  if (body.front() == '{') return state_->in_object(as_text(body), naming);
  // A bare word, or one in quotes.
  if (body.size() > 2 && body.front() == '"' && body.back() == '"') body = body.subspan(1, body.size() - 2);
  state_->text = as_text(body.first(std::min(body.size(), limits::name_bytes + 1)));
  return is_word(state_->text) ? name_or_nothing(state_->text) : std::string_view();
}

std::string_view MethodReader::read(std::span<const Slice> frames, const MethodNaming& naming) {
  if (frames.size() == 1) return read(frames[0].view(), naming);
  if (naming.fields.empty()) return {};
  bool is_ambiguous = false;
  const Slice* object = object_among(frames, is_ambiguous);
  if (is_ambiguous) return kUnreadableMethod;
  return object != nullptr ? read(object->view(), naming) : std::string_view();
}

bool MethodReader::leave_out(ByteView body, std::span<const std::string_view> fields,
                             std::vector<std::string_view>& pieces) {
  const std::string_view text = as_text(trimmed(body));
  if (text.empty() || text.front() != '{') return false;
  JsonMembers members(text);
  JsonMembers::Member member;
  const char* from = text.data();
  while (members.next(member)) {
    const auto name = state_->unescape(member.name);
    if (!name || std::find(fields.begin(), fields.end(), *name) == fields.end()) continue;
    pieces.emplace_back(from, member.name.data());
    from = member.value.data() + member.value.size();
  }
  pieces.emplace_back(from, text.data() + text.size());
  return !members.is_broken();
}

std::optional<std::string_view> MethodReader::read_key(ByteView body, std::string_view field) {
  body = trimmed(body);
  if (body.empty() || body.front() != '{') return std::nullopt;
  return state_->key_in_object(as_text(body), field);
}

std::optional<std::string_view> MethodReader::read_key(std::span<const Slice> frames, std::string_view field) {
  if (frames.size() == 1) return read_key(frames[0].view(), field);
  bool is_ambiguous = false;
  const Slice* object = object_among(frames, is_ambiguous);
  if (is_ambiguous) return "";
  return object != nullptr ? read_key(object->view(), field) : std::nullopt;
}

}  // namespace mesh::contract
