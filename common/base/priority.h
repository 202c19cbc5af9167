#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace mesh {

// Lower is served first. The numbers travel on the wire.
enum class Priority : uint8_t { kCritical = 0, kInteractive = 1, kNormal = 2, kBatch = 3 };

constexpr std::string_view to_string(Priority p) {
  constexpr std::string_view names[] = {"critical", "interactive", "normal", "batch"};
  return names[static_cast<uint8_t>(p)];
}

constexpr std::optional<Priority> priority_from_name(std::string_view name) {
  for (uint8_t i = 0; i < 4; ++i) {
    if (to_string(static_cast<Priority>(i)) == name) return static_cast<Priority>(i);
  }
  return std::nullopt;
}

}  // namespace mesh
