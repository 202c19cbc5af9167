// The log: logfmt, one line per event, never a payload.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <map>
#include <string>
#include <string_view>
#include <utility>

#include "common/base/instant.h"

namespace mesh::io {

enum class LogLevel : uint8_t { kDebug, kInfo, kWarning, kError };

using LogField = std::pair<std::string_view, std::string>;

// Writes lines to a descriptor. Values are quoted, and all of them that is not plain ASCII is escaped. Of lines with
// the same event and key, at most three a second are written; the next one after a quiet second says how many were left
// out.
class Log {
 public:
  explicit Log(int fd) : fd_(fd) {}

  void write(LogLevel level, std::string_view event, std::initializer_list<LogField> fields,
             std::string_view rate_key = {});

 private:
  struct Rate {
    int64_t second = 0;
    uint32_t written = 0;
    uint64_t left_out = 0;
  };
  static constexpr uint32_t kLinesPerSecond = 3;
  static constexpr size_t kRateKeysMax = 1024;

  int fd_;
  uint64_t lost_lines_ = 0;  // that the descriptor did not take
  std::map<std::string, Rate, std::less<>> rates_;
};

}  // namespace mesh::io
