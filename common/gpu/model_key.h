// The key under which an arbiter knows a model: everybody who leases memory for the same name means the same model.
#pragma once

#include <xxhash.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace mesh::gpu {

// XXH3-128 of the name, in its canonical order of bytes.
inline std::array<uint8_t, 16> model_key(std::string_view name) {
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, XXH3_128bits(name.data(), name.size()));
  std::array<uint8_t, 16> key{};
  std::memcpy(key.data(), canonical.digest, key.size());
  return key;
}

}  // namespace mesh::gpu
