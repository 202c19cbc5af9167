// What all subcommands do at their beginning and end: find the sidecars, tell what went wrong, print.
#pragma once

#include <string>

#include "tools/meshctl/commands.h"
#include "tools/meshctl/targets.h"
#include "tools/meshctl/text.h"

namespace mesh::ctl {

// Colours on a terminal, if nobody minds.
Paint paint_for(const Options& options);
// A line on stderr.
void tell(const std::string& text, const std::string& hint);
void tell_missing(const Answers& answers);
// Tells that nobody answers; the exit code.
int none_answers(const Targets& targets);
// A document on stdout.
void print(const Json& json);

// Those that were asked for, or the exit code if there are none, which was told.
struct Loaded {
  Targets targets;
  int code = kExitOk;
};
Loaded load(const Options& options);

}  // namespace mesh::ctl
