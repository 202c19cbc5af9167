#include "common/cache/reply.h"

#include <simdjson.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <optional>

#include "common/base/limits.h"
#include "common/cache/json_text.h"

namespace mesh::cache {
namespace {

namespace ondemand = simdjson::ondemand;

constexpr size_t kKeptBodyBytes = 64 * limits::KiB;

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

bool is_same_word(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](char x, char y) { return lower(x) == lower(y); });
}

std::string_view trimmed(std::string_view token) {
  const size_t end = token.find_last_not_of(" \t\r\n");
  return end == std::string_view::npos ? std::string_view() : token.substr(0, end + 1);
}

// Numbers of the same value may be written differently.
bool is_same_scalar(std::string_view a, std::string_view b) {
  if (a == b) return true;
  const auto number = [](std::string_view text) -> std::optional<double> {
    double value = 0;
    const auto [at, status] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (status != std::errc() || at != text.data() + text.size()) return std::nullopt;
    return value;
  };
  const auto first = number(a);
  return first && first == number(b);
}

}  // namespace

struct ReplyReader::State {
  ondemand::parser parser;
  std::vector<char> padded;
  std::string plain;  // a text without its escapes

  struct Scalar {
    std::string_view token;  // as it stands in the body; empty for an object or an array
    std::string_view value;  // of a text without quotes and escapes
    bool is_text = false;
  };
  static std::optional<Scalar> scalar(ondemand::value value) {
    Scalar found;
    ondemand::json_type type;
    if (value.type().get(type) != simdjson::SUCCESS) return std::nullopt;
    if (type == ondemand::json_type::object || type == ondemand::json_type::array) return found;
    found.token = trimmed(value.raw_json_token());
    found.is_text = type == ondemand::json_type::string;
    if (!found.is_text) {
      found.value = found.token;
    } else if (value.get_string().get(found.value) != simdjson::SUCCESS) {
      return std::nullopt;
    }
    return found;
  }
};

namespace {

// How far the fields that have been seen agree with the rule.
class Verdict {
 public:
  explicit Verdict(const contract::CacheTerms& terms) : terms_(terms), has_held_(terms.success_when.size(), false) {}

  template <class Scalar>
  void see(std::string_view field, const Scalar& scalar) {
    for (size_t i = 0; i < has_held_.size(); ++i) {
      const contract::Success& rule = terms_.success_when[i];
      if (rule.field != field) continue;
      has_held_[i] = std::any_of(rule.values.begin(), rule.values.end(), [&](const std::string& allowed) {
        return scalar.is_text ? is_same_word(scalar.value, allowed) : !scalar.token.empty() && scalar.token == allowed;
      });
    }
    if (!has_held_.empty()) return;
    if (field == "status") {
      is_bad_ |= !scalar.is_text || !(is_same_word(scalar.value, "success") || is_same_word(scalar.value, "ok"));
    } else if (field == "error") {
      is_bad_ |= scalar.token != "null";
    }
  }
  bool is_success() const {
    return !is_bad_ && std::all_of(has_held_.begin(), has_held_.end(), [](bool held) { return held; });
  }

 private:
  const contract::CacheTerms& terms_;
  std::vector<bool> has_held_;
  bool is_bad_ = false;
};

}  // namespace

ReplyReader::ReplyReader() : state_(std::make_unique<State>()) {}
ReplyReader::~ReplyReader() = default;

Reply ReplyReader::read(ByteView body, const contract::CacheTerms& terms, const std::vector<std::string>& asked) {
  if (!begins_object(as_text(body))) return {.is_success = terms.success_when.empty()};
  State& state = *state_;
  state.padded.resize(body.size() + simdjson::SIMDJSON_PADDING);
  std::memcpy(state.padded.data(), body.data(), body.size());
  std::memset(state.padded.data() + body.size(), 0, simdjson::SIMDJSON_PADDING);
  const simdjson::padded_string_view view(state.padded.data(), body.size(), state.padded.size());
  ondemand::document document;
  ondemand::object object;
  if (state.parser.iterate(view).get(document) != simdjson::SUCCESS) return {};
  if (document.get_object().get(object) != simdjson::SUCCESS) return {};
  Reply reply;
  Verdict verdict(terms);
  for (auto field : object) {
    std::string_view name;
    ondemand::value value;
    if (field.unescaped_key().get(name) != simdjson::SUCCESS || field.value().get(value) != simdjson::SUCCESS)
      return {};
    const auto scalar = State::scalar(value);
    if (!scalar) return {};
    verdict.see(name, *scalar);
    for (uint32_t i = 0; i < asked.size(); ++i) {
      const bool repeats = terms.echo_fields[i] == name && !asked[i].empty() && is_same_scalar(scalar->token, asked[i]);
      const auto offset = static_cast<uint32_t>(scalar->token.data() - state.padded.data());
      if (repeats) reply.echoes.push_back({i, offset, static_cast<uint32_t>(scalar->token.size())});
    }
  }
  reply.is_success = verdict.is_success();
  if (body.size() > kKeptBodyBytes) state_ = std::make_unique<State>();
  return reply;
}

Slice with_echoes(const Slice& body, const std::vector<Echo>& echoes, const std::vector<std::string>& asked) {
  if (echoes.empty()) return body;
  std::string text;
  size_t at = 0;
  for (const Echo& echo : echoes) {
    text += body.text().substr(at, echo.offset - at);
    text += asked[echo.field];
    at = echo.offset + echo.size;
  }
  text += body.text().substr(at);
  return Slice::copy_of(text);
}

}  // namespace mesh::cache
