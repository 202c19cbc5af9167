// Private to this module.
#pragma once

#include <string_view>

namespace mesh::cache {

// Whether a body means to be a JSON object.
inline bool begins_object(std::string_view body) {
  const size_t begin = body.find_first_not_of(" \t\r\n");
  return begin != std::string_view::npos && body[begin] == '{';
}

}  // namespace mesh::cache
