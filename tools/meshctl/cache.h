// Kept replies for people.
#pragma once

#include <string>

#include "tools/meshctl/fields.h"
#include "tools/meshctl/text.h"

namespace mesh::ctl {

// One answer to "cache stats", "cache keys" or "cache get".
std::string cache_stats_text(const Json& stats, const Paint& paint);
std::string cache_keys_text(const Json& keys);
std::string cache_get_text(const Json& answer, const Paint& paint);
// One answer to "cache purge".
std::string cache_purge_text(const Json& answer, const Paint& paint);
// Why a call was, or was not, answered with what is kept, from its record.
std::string cache_why_text(const Json& record, const Paint& paint);

// Of text that holds no other characters; what is behind one is left out.
std::string from_base64(std::string_view text);

}  // namespace mesh::ctl
