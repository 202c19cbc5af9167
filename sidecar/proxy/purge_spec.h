// What somebody wants to be given no more, as agents and operators say it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"
#include "common/cache/request.h"

namespace mesh::proxy {

struct PurgeSpec {
  enum class Kind : uint8_t { kAll, kService, kMethod, kTag, kKey };
  Kind kind = Kind::kAll;
  std::string service{};  // whose replies; empty for all, and for a key where nobody said
  std::string name{};     // of the method, or the tag
  cache::Hash key{};

  // By what the replies carry it in cache::Purges; not for kAll.
  uint64_t name_in_book() const;
  // e.g. "tag user:ann of tts".
  std::string text() const;
};

// {"action":"purge"} with one of "service":…; that and "method":… or "tag":…; "key":…, and perhaps its service;
// "all":true. What agents write into every request besides is passed over. The error says what else may be asked.
Result<PurgeSpec> read_purge_spec(std::string_view json);

// 32 hexadecimal digits, as wire::key_text() writes them.
std::optional<cache::Hash> read_key(std::string_view text);

}  // namespace mesh::proxy
