#include "tools/meshctl/fields.h"

namespace mesh::ctl {
namespace {

const Json kNull;
const Json kNoList = Json::array();

}  // namespace

std::string printable(std::string_view text) {
  constexpr std::string_view digits = "0123456789abcdef";
  std::string safe;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    // U+0080 to U+009F are control characters, too: some terminals take U+009B for ESC [.
    const bool is_c1 = byte == 0xC2 && i + 1 < text.size() && (static_cast<unsigned char>(text[i + 1]) & 0xE0) == 0x80;
    if (byte >= 0x20 && byte != 0x7F && !is_c1) {
      safe += text[i];
      continue;
    }
    const unsigned char control = is_c1 ? static_cast<unsigned char>(text[++i]) : byte;
    safe += "\\x";
    safe += digits[control >> 4];
    safe += digits[control & 15];
  }
  return safe;
}

const Json& at(const Json& json, std::string_view key) {
  if (!json.is_object()) return kNull;
  const auto found = json.find(std::string(key));
  return found == json.end() ? kNull : *found;
}

const Json& list_at(const Json& json, std::string_view key) {
  const Json& found = at(json, key);
  return found.is_array() ? found : kNoList;
}

std::string text_at(const Json& json, std::string_view key) {
  const Json& found = at(json, key);
  return found.is_string() ? printable(found.get_ref<const std::string&>()) : std::string();
}

double number_at(const Json& json, std::string_view key) {
  const Json& found = at(json, key);
  return found.is_number() ? found.get<double>() : 0;
}

uint64_t count_at(const Json& json, std::string_view key) {
  const Json& found = at(json, key);
  if (found.is_number_unsigned()) return found.get<uint64_t>();
  if (!found.is_number_integer()) return 0;
  const auto number = found.get<int64_t>();
  return number < 0 ? 0 : static_cast<uint64_t>(number);
}

bool flag_at(const Json& json, std::string_view key) {
  const Json& found = at(json, key);
  return found.is_boolean() && found.get<bool>();
}

}  // namespace mesh::ctl
