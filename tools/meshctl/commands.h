// What each subcommand does: asks, formats, and says how it went by an exit code.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tools/meshctl/probe.h"

namespace mesh::ctl {

struct Options {
  std::vector<std::string> configs;
  bool json = false;
  std::string sidecar;  // only this one; empty for all
};

struct ExplainOptions {
  std::string call;  // if not empty, it alone counts
  enum class Which : uint8_t { kNewest, kSlowest, kFailed } which = Which::kNewest;
  uint64_t count = 1;
};

// Each writes data to stdout and the rest to stderr, and gives the exit code. The first SIGINT or SIGTERM ends those
// that repeat; watch_signals() must have been called.
void watch_signals();
int run_explain(const Options& options, const ExplainOptions& explaining);
int run_status(const Options& options);
// `count` 0: until a signal.
int run_top(const Options& options, double interval_s, uint64_t count);
int run_probe(const Options& options, const ProbeOptions& probing, bool live);
int run_check(const Options& options);

}  // namespace mesh::ctl
