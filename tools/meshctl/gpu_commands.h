// What each command of "meshctl gpu" does: asks the arbiter of this host, formats, and says how it went by an exit
// code.
#pragma once

#include <cstdint>
#include <string>

#include "tools/meshctl/commands.h"

namespace mesh::ctl {

struct GpuOptions {
  std::string admin = "/run/mesh/gpu.admin";  // the arbiter's admin socket
  uint64_t count = 20;                        // decisions
  std::string what;                           // a lease's or a card's name, or the first characters of it
  bool undo = false;                          // a drain
  std::string size;                           // of a plan; or a model
  std::string priority = "normal";
};

// Cards, leases and queue.
int run_gpu_overview(const Options& options, const GpuOptions& gpu);
// One of "leases", "queue", "segments".
int run_gpu_list(const Options& options, const GpuOptions& gpu, const std::string& what);
int run_gpu_explain(const Options& options, const GpuOptions& gpu);
int run_gpu_evict(const Options& options, const GpuOptions& gpu);
int run_gpu_drain(const Options& options, const GpuOptions& gpu);
int run_gpu_plan(const Options& options, const GpuOptions& gpu);

}  // namespace mesh::ctl
