// The command line of "meshctl gpu".
#pragma once

#include <CLI/CLI.hpp>

#include "tools/meshctl/gpu_commands.h"

namespace mesh::ctl {

struct GpuCommands {
  CLI::App* gpu = nullptr;
  CLI::App* leases = nullptr;
  CLI::App* queue = nullptr;
  CLI::App* segments = nullptr;
  CLI::App* explain = nullptr;
  CLI::App* evict = nullptr;
  CLI::App* drain = nullptr;
  CLI::App* plan = nullptr;
};

// `gpu` must outlive the parsing.
GpuCommands add_gpu_commands(CLI::App& app, GpuOptions& gpu);
// The one that was given; the exit code.
int run_gpu(const GpuCommands& commands, const Options& options, const GpuOptions& gpu);

}  // namespace mesh::ctl
