#include "tools/meshctl/text.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

namespace mesh::ctl {

std::string number_text(double number, int digits) {
  std::array<char, 40> text{};
  std::snprintf(text.data(), text.size(), "%.*f", digits, number);
  return text.data();
}

std::string Paint::operator()(Tone tone, std::string_view text) const {
  constexpr std::string_view codes[] = {"", "\x1b[32m", "\x1b[31m", "\x1b[2m", "\x1b[1m"};
  if (!on_ || tone == Tone::kPlain) return std::string(text);
  return std::string(codes[static_cast<size_t>(tone)]) + std::string(text) + "\x1b[0m";
}

std::string duration_text(double us) {
  if (us < 1000) return number_text(us, us < 10 && us != std::floor(us) ? 1 : 0) + " µs";
  if (us < 1e6) return number_text(us / 1000, us < 1e5 ? 2 : 1) + " ms";
  return number_text(us / 1e6, 2) + " s";
}

std::string bytes_text(double bytes) {
  if (bytes < 1024) return number_text(bytes, 0) + " B";
  if (bytes < 1024.0 * 1024) return number_text(bytes / 1024, 1) + " KiB";
  return number_text(bytes / 1024 / 1024, 1) + " MiB";
}

std::string bar(double fraction, size_t width) {
  constexpr std::string_view parts[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
  const auto eighths =
      static_cast<size_t>(std::lround(std::clamp(fraction, 0.0, 1.0) * static_cast<double>(width) * 8));
  std::string text;
  for (size_t i = 0; i < eighths / 8; ++i) text += "█";
  text += parts[eighths % 8];
  return text.empty() && fraction > 0 ? "▏" : text;
}

size_t width_of(std::string_view text) {
  size_t width = 0;
  bool in_escape = false;
  for (const char c : text) {
    if (in_escape) {
      in_escape = c != 'm';
    } else if (c == '\x1b') {
      in_escape = true;
    } else if ((static_cast<unsigned char>(c) & 0xC0) != 0x80) {
      ++width;
    }
  }
  return width;
}

std::string left(std::string_view text, size_t width) {
  const size_t used = width_of(text);
  return std::string(text) + std::string(width > used ? width - used : 0, ' ');
}

std::string right(std::string_view text, size_t width) {
  const size_t used = width_of(text);
  return std::string(width > used ? width - used : 0, ' ') + std::string(text);
}

std::string table(const std::vector<std::vector<std::string>>& rows, const std::vector<size_t>& numeric) {
  std::vector<size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], width_of(row[i]));
  }
  std::string text;
  for (const auto& row : rows) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      const bool is_numeric = std::find(numeric.begin(), numeric.end(), i) != numeric.end();
      line += (i > 0 ? "  " : "") + (is_numeric ? right(row[i], widths[i]) : left(row[i], widths[i]));
    }
    text += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
  }
  return text;
}

}  // namespace mesh::ctl
