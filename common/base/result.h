// Outside input gives a Result, never an exception.
#pragma once

#include <string>
#include <tl/expected.hpp>
#include <utility>

#include "common/base/code.h"

namespace mesh {

template <class T>
using Result = tl::expected<T, Error>;

using Unexpected = tl::unexpected<Error>;

inline Error rule_broken(Code code, std::string rule, std::string text) {
  Error error;
  error.code = code;
  error.rule = std::move(rule);
  error.text = std::move(text);
  return error;
}

// Fails a Result with a code, the rule that was broken and a sentence for people.
inline Unexpected fail(Code code, std::string rule, std::string text) {
  return Unexpected(rule_broken(code, std::move(rule), std::move(text)));
}

}  // namespace mesh
