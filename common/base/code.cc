#include "common/base/code.h"

#include <array>

namespace mesh {
namespace {

constexpr std::array<std::string_view, kCodeCount> kNames = {
    "OK",       "APP_ERROR", "INVALID",  "UNAUTHENTICATED", "DENIED",    "NO_ROUTE", "OVERLOADED",
    "DRAINING", "DEADLINE",  "NOT_SENT", "OUTCOME_UNKNOWN", "TOO_LARGE", "STORAGE",  "INTERNAL",
};

}  // namespace

std::string_view to_string(Code code) { return kNames.at(static_cast<size_t>(code)); }

std::optional<Code> code_from_name(std::string_view name) {
  for (size_t i = 0; i < kNames.size(); ++i) {
    if (kNames[i] == name) return static_cast<Code>(i);
  }
  return std::nullopt;
}

std::optional<Code> code_from_number(uint64_t number) {
  if (number >= kNames.size()) return std::nullopt;
  return static_cast<Code>(number);
}

}  // namespace mesh
