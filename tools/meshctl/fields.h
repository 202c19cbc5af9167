// Reads the documents that sidecars answer with, whatever they hold: a sidecar of another version leaves fields out or
// adds some, and a service's or method's name may be what a stranger chose.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace mesh::ctl {

using Json = nlohmann::ordered_json;

// The text as a terminal may have it: control characters as "\x1b", so that nobody's name moves the cursor.
std::string printable(std::string_view text);

// The member of that name; null if there is none or `json` is no object. As long-lived as `json`.
const Json& at(const Json& json, std::string_view key);
// The same, or an empty array if it is none.
const Json& list_at(const Json& json, std::string_view key);
// Printable; empty if it is no string.
std::string text_at(const Json& json, std::string_view key);
// 0 if it is no number.
double number_at(const Json& json, std::string_view key);
// 0 if it is no number, or below 0.
uint64_t count_at(const Json& json, std::string_view key);
// false if it is no boolean.
bool flag_at(const Json& json, std::string_view key);

}  // namespace mesh::ctl
