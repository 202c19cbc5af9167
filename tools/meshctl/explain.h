// Decision records for people.
#pragma once

#include <string>

#include "tools/meshctl/targets.h"
#include "tools/meshctl/text.h"

namespace mesh::ctl {

// One record, as the admin line "explain" gives it, as a page of text.
std::string explain_text(const Json& record, const Paint& paint);

// How much of a record's time its stages account for, 0 to 1.
double accounted_fraction(const Json& record);

}  // namespace mesh::ctl
