// What of an agent's reply matters for keeping it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common/base/slice.h"
#include "common/contract/cache_terms.h"

namespace mesh::cache {

// A piece of a reply that repeats something from the request.
struct Echo {
  uint32_t field = 0;  // position in CacheTerms::echo_fields
  uint32_t offset = 0;
  uint32_t size = 0;
};

struct Reply {
  bool is_success = false;
  std::vector<Echo> echoes{};  // by offset
};

// Keeps its buffers from body to body.
class ReplyReader {
 public:
  ReplyReader();
  ~ReplyReader();
  ReplyReader(const ReplyReader&) = delete;
  ReplyReader& operator=(const ReplyReader&) = delete;

  // Whether the body of a reply says that the agent did what it was asked, by the contract's rule, and where it repeats
  // `asked` (Request::echoes). What is no JSON object is a success unless the contract names fields. Any bytes will do.
  Reply read(ByteView body, const contract::CacheTerms& terms, const std::vector<std::string>& asked);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// The body as it answers another request: its `asked` in the places of the first's. Itself where there is none.
Slice with_echoes(const Slice& body, const std::vector<Echo>& echoes, const std::vector<std::string>& asked);

}  // namespace mesh::cache
