// How a model's name becomes the key that the arbiter knows it by.
#pragma once

#include <string>
#include <string_view>

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace mesh::sdk {

// 16 bytes, never all zero; empty for an empty name.
inline std::string model_key(std::string_view name) {
  if (name.empty()) return {};
  const XXH128_hash_t hash = XXH3_128bits(name.data(), name.size());
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, hash);
  std::string key(reinterpret_cast<const char*>(canonical.digest), sizeof(canonical.digest));
  if (key == std::string(key.size(), '\0')) key.back() = 1;
  return key;
}

}  // namespace mesh::sdk
