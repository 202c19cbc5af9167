// Tables, bars and numbers for people. Everything here is a pure function.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace mesh::ctl {

enum class Tone : uint8_t { kPlain, kGood, kBad, kDim, kStrong };

// Colours, or nothing where nobody wants them.
class Paint {
 public:
  explicit Paint(bool on) : on_(on) {}
  std::string operator()(Tone tone, std::string_view text) const;
  std::string mark(bool good) const { return (*this)(good ? Tone::kGood : Tone::kBad, good ? "✓" : "✗"); }

 private:
  bool on_;
};

// With so many digits behind the point.
std::string number_text(double number, int digits);
// e.g. "87 µs", "1.24 ms", "3.50 s".
std::string duration_text(double us);
// e.g. "512 B", "1.5 KiB".
std::string bytes_text(double bytes);
// A bar of at most `width` characters, in eighths; empty for 0.
std::string bar(double fraction, size_t width);
// On a screen; UTF-8 without combining characters.
size_t width_of(std::string_view text);
// Filled up with spaces on the right, or on the left.
std::string left(std::string_view text, size_t width);
std::string right(std::string_view text, size_t width);

// Rows with their columns lined up, two spaces between. Columns named in `numeric` are flush right.
std::string table(const std::vector<std::vector<std::string>>& rows, const std::vector<size_t>& numeric = {});

}  // namespace mesh::ctl
