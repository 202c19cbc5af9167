// What tells one request from another, for replies that are kept.
//
// Two requests have the same key if they ask the same: same service, method, schema version and caller (where the
// contract keeps replies per caller), and the same body. JSON bodies are compared by what they say: members in any
// order, any white space, texts however escaped, without the fields that the contract ignores. Numbers are the same if
// they are the same 64-bit integer or the same double (1.50 is 1.5, 1e2 is 100.0); an integer is never a double (1 is
// not 1.0), and 0.0 is not -0.0: agents answer these differently. A body with an object that names a member twice, with
// an integer beyond 64 bits, nested deeper than limits::json_depth_max or larger than limits::canonical_body_bytes is
// compared byte by byte, as is everything that is no JSON object.
#pragma once

#include <compare>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/slice.h"
#include "common/contract/cache_terms.h"

namespace mesh::cache {

// XXH3 of a key, 128 bits: finds it, but does not stand for it.
struct Hash {
  uint64_t low = 0;
  uint64_t high = 0;
  auto operator<=>(const Hash&) const = default;
};
// For unordered containers.
struct HashOfHash {
  size_t operator()(const Hash& hash) const { return hash.low; }
};

struct Key {
  Hash hash;
  Slice text;  // all that counts; equal keys have equal texts
};

// 64 bits of a name; two names with the same one only make more wrong than had to be.
uint64_t name_hash(std::string_view service, std::string_view name);

struct Asked {
  std::string_view service;
  std::string_view method;
  std::string_view caller;  // empty where replies are for all
  ByteView body;
  std::span<const uint32_t> part_sizes;  // of a body of several frames; else empty
};

struct Request {
  Key key;
  std::vector<uint64_t> tags;       // name_hash() of each
  std::vector<std::string> echoes;  // by echo field: its scalar as JSON; empty if it has none
  // A field that a tag names is missing: nobody could tell when the reply becomes wrong.
  bool lacks_tag = false;
  bool is_by_bytes = false;  // the body was compared byte by byte
};

// Keeps its buffers from body to body.
class RequestReader {
 public:
  RequestReader();
  ~RequestReader();
  RequestReader(const RequestReader&) = delete;
  RequestReader& operator=(const RequestReader&) = delete;

  // Any bytes will do.
  Request read(const Asked& asked, const contract::CacheTerms& terms);
  // Of a request that makes replies wrong: name_hash() of each tag. Nothing if a field that one names is missing.
  bool read_tags(const Asked& asked, const std::vector<contract::TagPattern>& patterns, std::vector<uint64_t>& tags);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace mesh::cache
