// How a model's name becomes the key that an arbiter knows it by: whoever leases memory for a model of the same name
// means the same model.
#pragma once

#include <string>
#include <string_view>

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace mesh {

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

}  // namespace mesh
