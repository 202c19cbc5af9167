// The command line of "meshctl cache".
#pragma once

#include <CLI/CLI.hpp>

#include "tools/meshctl/cache_commands.h"

namespace mesh::ctl {

struct CacheCommands {
  CLI::App* cache = nullptr;
  CLI::App* stats = nullptr;
  CLI::App* keys = nullptr;
  CLI::App* get = nullptr;
  CLI::App* purge = nullptr;
  CLI::App* why = nullptr;
};

// `cache` must outlive the parsing.
CacheCommands add_cache_commands(CLI::App& app, CacheOptions& cache);
// The one that was given; the exit code.
int run_cache(const CacheCommands& commands, const Options& options, const CacheOptions& cache);

}  // namespace mesh::ctl
