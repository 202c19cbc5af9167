// Private to this module: the members at the top level of a JSON object, one after the other, without a tree, a copy or
// memory of its own.
//
// It only looks for where members begin and end, so that it may stop at the one that is looked for; what lies inside a
// value is for the agent to judge.
#pragma once

#include <algorithm>
#include <array>
#include <string_view>

namespace mesh::contract {

class JsonMembers {
 public:
  struct Member {
    std::string_view name;   // as it is written, without its quotes
    std::string_view value;  // as it is written
  };

  // `text` begins with a brace and has no space behind it; it must outlive this and its members.
  explicit JsonMembers(std::string_view text) : text_(text), is_broken_(text.back() != '}') {}

  // False behind the last, or where the object cannot be followed any further.
  bool next(Member& member) {
    if (is_broken_ || at_end_) return false;
    is_broken_ = true;
    ++at_;  // the brace, or a comma
    skip_space();
    if (is_first_ && peek() == '}') return end();
    is_first_ = false;
    const size_t name_at = at_;
    if (peek() != '"' || !skip_string()) return false;
    member.name = text_.substr(name_at + 1, at_ - name_at - 2);
    skip_space();
    if (peek() != ':') return false;
    ++at_;
    skip_space();
    const size_t value_at = at_;
    if (!skip_value()) return false;
    member.value = text_.substr(value_at, at_ - value_at);
    skip_space();
    if (peek() == '}') {
      end();
      return !is_broken_;
    }
    is_broken_ = peek() != ',';
    return !is_broken_;
  }
  bool is_broken() const { return is_broken_; }

 private:
  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  void skip_space() {
    for (char c = peek(); c == ' ' || c == '\t' || c == '\n' || c == '\r'; c = peek()) ++at_;
  }
  bool end() {
    at_end_ = true;
    is_broken_ = at_ + 1 != text_.size();
    return false;
  }

  // Short ones byte by byte, and in long ones from one escape to the next.
  bool skip_string() {
    constexpr size_t kShort = 32;
    const std::string_view text = text_;
    size_t quote = 0;  // the next one, if not behind `at`
    size_t plain = 0;
    for (size_t at = at_ + 1; at < text.size(); ++at) {
      if (text[at] == '"') {
        at_ = at + 1;
        return true;
      }
      if (text[at] == '\\') {
        ++at;
        plain = 0;
      } else if (++plain == kShort) {
        plain = 0;
        if (quote < at) quote = text.find('"', at);
        if (quote == std::string_view::npos) return false;
        at = std::min(text.substr(0, quote).find('\\', at), quote) - 1;
      }
    }
    return false;
  }

  bool skip_value() {
    if (peek() == '"') return skip_string();
    if (peek() == '{' || peek() == '[') return skip_nested();
    const size_t begin = at_;
    skip_to(kEndsScalar);
    return at_ > begin;
  }

  bool skip_nested() {
    size_t depth = 0;
    while (true) {
      skip_to(kNests);
      switch (peek()) {
        case '"':
          if (!skip_string()) return false;
          continue;
        case '{':
        case '[':
          ++depth;
          break;
        case '}':
        case ']':
          --depth;
          break;
        default:
          return false;
      }
      ++at_;
      if (depth == 0) return true;
    }
  }

  using Bytes = std::array<bool, 256>;
  static constexpr Bytes bytes_of(std::string_view text) {
    Bytes bytes{};
    for (const char each : text) bytes[static_cast<unsigned char>(each)] = true;
    return bytes;
  }
  static const Bytes kNests;
  static const Bytes kEndsScalar;
  void skip_to(const Bytes& bytes) {
    const std::string_view text = text_;
    size_t at = at_;
    while (at < text.size() && !bytes[static_cast<unsigned char>(text[at])]) ++at;
    at_ = at;
  }

  std::string_view text_;
  size_t at_ = 0;
  bool is_first_ = true;
  bool at_end_ = false;
  bool is_broken_;
};

inline constexpr JsonMembers::Bytes JsonMembers::kNests = bytes_of("\"{}[]");
inline constexpr JsonMembers::Bytes JsonMembers::kEndsScalar = bytes_of(",:{}[]\" \t\r\n");

}  // namespace mesh::contract
