#include "common/contract/cache_terms.h"

namespace mesh::contract {

std::string_view to_string(Tier tier) {
  constexpr std::string_view names[] = {"local", "shared", "home", "disk"};
  return names[static_cast<size_t>(tier)];
}

bool TagPattern::parse(const std::string& text, TagPattern& pattern) {
  pattern.parts.clear();
  std::string_view rest = text;
  while (true) {
    const size_t open = rest.find_first_of("{}");
    pattern.parts.emplace_back(rest.substr(0, open));
    if (open == std::string_view::npos) break;
    const size_t close = rest.find_first_of("{}", open + 1);
    const bool is_field =
        rest[open] == '{' && close != std::string_view::npos && rest[close] == '}' && close > open + 1;
    if (!is_field) return false;
    pattern.parts.emplace_back(rest.substr(open + 1, close - open - 1));
    rest.remove_prefix(close + 1);
  }
  return !text.empty();
}

}  // namespace mesh::contract
