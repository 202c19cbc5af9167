// Decision records for people.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "tools/meshctl/fields.h"
#include "tools/meshctl/text.h"

namespace mesh::ctl {

// A call as errors name it, "HOST/SIDECAR-NUMBER", or the number alone.
struct CallName {
  std::string sidecar;  // empty if only the number was given
  uint64_t number = 0;
};
// Nothing if it is no such name.
std::optional<CallName> parse_call(std::string_view text);

// One record, as the admin line "explain" gives it, as a page of text.
std::string explain_text(const Json& record, const Paint& paint);

// The offset of another host's clock and its bound, as a sentence.
std::string clock_text(const Json& clock);

}  // namespace mesh::ctl
