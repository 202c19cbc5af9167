#include "sidecar/io/log_file.h"

#include <poll.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <ctime>
#include <utility>

namespace mesh::io {
namespace {

void append_value(std::string& line, std::string_view value) {
  bool plain = !value.empty();
  for (const char c : value) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte <= ' ' || byte >= 0x7F || c == '"' || c == '=' || c == '\\') plain = false;
  }
  if (plain) {
    line += value;
    return;
  }
  line += '"';
  for (const char c : value) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      line += '\\';
      line += c;
    } else if (byte < ' ' || byte >= 0x7F) {
      std::array<char, 8> escaped{};
      std::snprintf(escaped.data(), escaped.size(), "\\x%02x", byte);
      line += escaped.data();
    } else {
      line += c;
    }
  }
  line += '"';
}

std::string timestamp(const timespec& at) {
  tm parts{};
  gmtime_r(&at.tv_sec, &parts);
  std::array<char, 40> text{};
  const size_t size = std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%S", &parts);
  std::array<char, 48> full{};
  std::snprintf(full.data(), full.size(), "%.*s.%03ldZ", static_cast<int>(size), text.data(), at.tv_nsec / 1'000'000);
  return full.data();
}

}  // namespace

void Log::write(LogLevel level, std::string_view event, std::initializer_list<LogField> fields,
                std::string_view rate_key) {
  constexpr std::array<std::string_view, 4> kLevels = {"debug", "info", "warning", "error"};
  timespec at{};
  clock_gettime(CLOCK_REALTIME, &at);
  std::string line = "ts=" + timestamp(at) + " level=";
  line += kLevels[static_cast<size_t>(level)];
  line += " event=";
  line += event;
  const uint64_t lost = std::exchange(lost_lines_, 0);
  if (lost > 0) line += " lost_lines=" + std::to_string(lost);
  if (!rate_key.empty()) {
    if (rates_.size() >= kRateKeysMax) rates_.clear();
    Rate& rate = rates_[std::string(event) + '\n' + std::string(rate_key)];
    if (rate.second != at.tv_sec) {
      rate.second = at.tv_sec;
      rate.written = 0;
    }
    if (++rate.written > kLinesPerSecond) {
      ++rate.left_out;
      return;
    }
    if (rate.left_out > 0) line += " left_out=" + std::to_string(std::exchange(rate.left_out, 0));
  }
  for (const auto& [key, value] : fields) {
    line += ' ';
    line += key;
    line += '=';
    append_value(line, value);
  }
  line += '\n';
  // A log that nobody takes must not stop the traffic.
  pollfd ready{.fd = fd_, .events = POLLOUT, .revents = 0};
  if (poll(&ready, 1, 0) != 1 || (ready.revents & POLLOUT) == 0 || ::write(fd_, line.data(), line.size()) < 0) {
    lost_lines_ = lost + 1;
  }
}

}  // namespace mesh::io
