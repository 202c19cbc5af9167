// Kept replies whose every byte follows from their key and a version that the body names: so a test sees by itself
// whether one is whole, whatever checksums say.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/base/prng.h"
#include "common/cache/kept_form.h"

namespace mesh::cache {

inline const Instant kNow{milliseconds(1'000'000)};

inline Key key_of(uint64_t number) {
  Prng prng(number);
  const uint64_t low = prng.next();
  return {{low, prng.next()}, Slice::copy_of("key " + std::to_string(number))};
}

inline std::string body_of(uint64_t number, uint64_t version, size_t bytes) {
  std::string body = std::to_string(number) + ":" + std::to_string(version) + ":" + std::to_string(bytes) + ":";
  Prng prng(number * 1'000'003 + version);
  while (body.size() < bytes) {
    const uint64_t word = prng.next();
    body.append(reinterpret_cast<const char*>(&word), sizeof(word));
  }
  body.resize(bytes);
  return body;
}

// `bytes` of at least 64.
inline Kept self_telling(uint64_t number, uint64_t version, size_t bytes, Instant now = kNow) {
  Kept kept;
  kept.key = key_of(number);
  kept.service = 1;
  kept.method = 2;
  kept.tags = {number, version};
  kept.body = Slice::copy_of(body_of(number, version, bytes));
  kept.since = version;
  kept.stored_at = now;
  kept.fresh_until = kept.revalidate_until = kept.error_until = now + milliseconds(60'000);
  return kept;
}

// Whether it is what self_telling() made for that number.
inline bool is_whole(const Found& found, uint64_t number) {
  const Kept& kept = found.kept;
  const std::string_view text = kept.body.text();
  if (kept.tags.size() != 2 || kept.tags[0] != number || kept.since != kept.tags[1]) return false;
  return kept.key.text.text() == "key " + std::to_string(number) && text == body_of(number, kept.since, text.size());
}

}  // namespace mesh::cache
