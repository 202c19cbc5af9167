#include "tools/meshctl/gpu_cli.h"

namespace mesh::ctl {
namespace {

void add_orders(GpuCommands& commands, GpuOptions& gpu) {
  commands.evict = commands.gpu->add_subcommand("evict", "asks a lease to yield, or drops weights that nobody uses");
  commands.evict
      ->add_option("LEASE", gpu.what, "its id or the first characters of it, as leases and segments show them")
      ->required();
  commands.evict->footer(
      "examples:\n  meshctl gpu evict 3f9a1c02\n\nIt is asked as far as it agreed, and nobody else. Exit code 1 if "
      "there "
      "is none, or it is not to be asked.\nOnly root and the user that mesh-arbiter runs as may do this; its log "
      "tells.");
  commands.drain =
      commands.gpu->add_subcommand("drain", "empties a card: nothing is granted, all who hold some are asked");
  commands.drain->add_option("GPU", gpu.what, "its UUID or the first characters of it")->required();
  commands.drain->add_flag("--undo", gpu.undo, "it grants again");
  commands.drain->footer(
      "examples:\n  meshctl gpu drain GPU-8f\n  meshctl gpu drain GPU-8f --undo\n\nWho is not revocable keeps what he "
      "has. "
      "It holds until it is undone or mesh-arbiter is started again.");
}

}  // namespace

GpuCommands add_gpu_commands(CLI::App& app, GpuOptions& gpu) {
  GpuCommands commands;
  commands.gpu = app.add_subcommand("gpu", "memory of this computer's GPUs: who has it, who waits for it and why");
  commands.gpu->require_subcommand(0, 1);
  commands.gpu->add_option("--admin", gpu.admin, "the admin socket of mesh-arbiter")
      ->envname("MESH_GPU_ADMIN")
      ->type_name("PATH")
      ->capture_default_str();
  commands.gpu->footer(
      "examples:\n  meshctl gpu\n  meshctl gpu plan 6GiB --priority interactive\n  meshctl gpu explain\n"
      "  meshctl gpu drain GPU-8f\n\nWithout a command: a bar for each card, then leases and queue. In the bar █ is "
      "leased, ▒ is others without a\nlease, ▞ what processes need to use the card at all, ▚ the reserve, . is free.\n"
      "Exit code 69 if no mesh-arbiter answers.");
  commands.leases =
      commands.gpu->add_subcommand("leases", "who holds how much, for how long, and gives it back how far");
  commands.queue = commands.gpu->add_subcommand("queue", "who waits, for how long, and why");
  commands.segments = commands.gpu->add_subcommand("segments", "weights that several agents share");
  commands.explain = commands.gpu->add_subcommand("explain", "the last decisions, the newest at the end");
  commands.explain->add_option("LEASE", gpu.what, "only of this one; the first characters of its id will do");
  commands.explain->add_option("--count", gpu.count, "so many")->type_name("N")->capture_default_str();
  commands.explain->footer("examples:\n  meshctl gpu explain\n  meshctl gpu explain 3f9a1c02 --json");
  add_orders(commands, gpu);
  commands.plan = commands.gpu->add_subcommand("plan", "would it fit now, whom would be asked for it, in how long");
  commands.plan->add_option("WHAT", gpu.size, "a size (6GiB), or a model's name if somebody has it now")->required();
  commands.plan->add_option("--priority", gpu.priority, "of who would ask")
      ->check(CLI::IsMember({"critical", "interactive", "normal", "batch"}))
      ->capture_default_str();
  commands.plan->footer(
      "examples:\n  meshctl gpu plan 6GiB\n  meshctl gpu plan llama3-8b --priority interactive --json\n\nNothing is "
      "changed. Exit code 1 if it would fit nowhere, or nobody knows when.");
  for (CLI::App* each : {commands.gpu, commands.leases, commands.queue, commands.segments, commands.explain,
                         commands.evict, commands.drain, commands.plan}) {
    each->fallthrough();
  }
  return commands;
}

int run_gpu(const GpuCommands& commands, const Options& options, const GpuOptions& gpu) {
  for (const CLI::App* list : {commands.leases, commands.queue, commands.segments}) {
    if (*list) return run_gpu_list(options, gpu, list->get_name());
  }
  if (*commands.explain) return run_gpu_explain(options, gpu);
  if (*commands.evict) return run_gpu_evict(options, gpu);
  if (*commands.drain) return run_gpu_drain(options, gpu);
  if (*commands.plan) return run_gpu_plan(options, gpu);
  return run_gpu_overview(options, gpu);
}

}  // namespace mesh::ctl
