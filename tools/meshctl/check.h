// Everything about a deployment that can be looked at from here, each finding with what to do about it.
#pragma once

#include <string>
#include <vector>

#include "tools/meshctl/targets.h"
#include "tools/meshctl/text.h"

namespace mesh::ctl {

struct Finding {
  enum class Verdict : uint8_t { kGood, kWarning, kBad };
  Verdict verdict = Verdict::kGood;
  std::string about;  // e.g. "mainpc/main admin socket"
  std::string text;
  std::string hint;  // what to do; empty when all is well
};

std::vector<Finding> check(const Targets& targets, const std::vector<std::string>& files);
std::string check_text(const std::vector<Finding>& findings, const Paint& paint);
Json check_json(const std::vector<Finding>& findings);
// True if nothing is bad; warnings pass.
bool passes(const std::vector<Finding>& findings);

}  // namespace mesh::ctl
