// Everything about a deployment that can be looked at from here, each finding with what to do about it.
#pragma once

#include <string>
#include <vector>

#include "tools/meshctl/targets.h"
#include "tools/meshctl/text.h"

namespace mesh::ctl {

struct Finding {
  enum class Verdict : uint8_t { kGood, kWarning, kBad, kSkipped };
  Verdict verdict = Verdict::kGood;
  std::string about;  // e.g. "mainpc/main admin socket"
  std::string text;
  std::string hint;  // what to do; empty when all is well
};

// Looks at the files, at the sidecars that answer here, and through them at what they need. Takes about a second for
// each port that does not answer.
std::vector<Finding> check(const Targets& targets, const std::vector<std::string>& files);
std::string check_text(const std::vector<Finding>& findings, const Paint& paint);
Json check_json(const std::vector<Finding>& findings);
// True if nothing is bad; warnings and what was skipped pass.
bool passes(const std::vector<Finding>& findings);

}  // namespace mesh::ctl
