// meshctl: what the sidecars of this computer do and did, for their operator. This file is its command line.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <iostream>
#include <utility>

#include "tools/meshctl/cache_cli.h"
#include "tools/meshctl/commands.h"
#include "tools/meshctl/completion.h"
#include "tools/meshctl/gpu_cli.h"

namespace {

using namespace mesh::ctl;  // main marries everything

constexpr const char* kExitTable =
    "Exit codes: 0 done, all is well · 1 a check failed, or nothing was found · 64 wrong usage\n"
    "            69 a sidecar or the arbiter cannot be reached · 78 errors in the configuration\n"
    "Data goes to stdout, everything else to stderr. Colours only on a terminal, and not with NO_COLOR.";

std::vector<std::string> choices_of(const CLI::Option& option) {
  // CLI11 tells the members of a set only as the text "{a,b,c}".
  std::string text = option.get_type_name();
  const size_t begin = text.find('{');
  const size_t end = text.find('}', begin == std::string::npos ? 0 : begin);
  if (begin == std::string::npos || end == std::string::npos) return {};
  return CLI::detail::split(text.substr(begin + 1, end - begin - 1), ',');
}

CommandWords words_of(CLI::App& app) {
  CommandWords words{
      .name = app.get_name(), .about = app.get_description(), .options = {}, .choices = {}, .subcommands = {}};
  for (const CLI::Option* option : app.get_options()) {
    if (option->nonpositional()) {
      OptionWords known{.names = {}, .about = option->get_description(), .takes_value = option->get_expected_max() > 0};
      for (const std::string& name : option->get_snames()) known.names.push_back("-" + name);
      for (const std::string& name : option->get_lnames()) known.names.push_back("--" + name);
      known.value_may_miss = option->get_expected_min() == 0;
      words.options.push_back(std::move(known));
    } else if (words.choices.empty()) {
      words.choices = choices_of(*option);
    }
  }
  for (CLI::App* command : app.get_subcommands({})) words.subcommands.push_back(words_of(*command));
  return words;
}

// Scripts know one level: what a command's own commands are called is what its first argument may be, and all of their
// options are offered.
CommandWords flattened(CommandWords words) {
  for (CommandWords& command : words.subcommands) {
    for (CommandWords& own : std::exchange(command.subcommands, {})) {
      command.choices.push_back(own.name);
      for (OptionWords& option : own.options) {
        const bool is_known = std::any_of(command.options.begin(), command.options.end(),
                                          [&](const OptionWords& known) { return known.names == option.names; });
        if (!is_known) command.options.push_back(std::move(option));
      }
    }
  }
  return words;
}

constexpr uint64_t kSome = 5;

// An option that may stand alone: then it means kSome.
CLI::Option* add_some(CLI::App* app, const std::string& name, uint64_t& number, const std::string& about) {
  return app->add_option(name, number, about + " (N: " + std::to_string(kSome) + ")")
      ->expected(0, 1)
      ->type_name("N")
      ->check(CLI::Range(uint64_t{1}, uint64_t{1000}));
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("What the sidecars of this computer do and did. Finds their admin sockets by the hosts' configurations.",
               "meshctl");
  app.require_subcommand(1);
  app.fallthrough();  // --json and --config may stand behind the subcommand
  app.footer(std::string("examples:\n  meshctl --config /etc/mesh/mainpc.json status\n  meshctl explain --slowest 3\n"
                         "  meshctl probe pc2 --count 500 --svg probe.svg\n\n") +
             kExitTable);
  Options options;
  app.add_option("-c,--config", options.configs, "a host's configuration; may be given for several hosts")
      ->envname("MESH_CONFIG")
      ->allow_extra_args(false)
      ->type_name("FILE")
      ->default_val(std::vector<std::string>{"/etc/mesh/mesh.json"});
  app.add_flag("--json", options.json, "JSON instead of text");
  app.add_option("--sidecar", options.sidecar, "only this one")->type_name("HOST/NAME");

  ExplainOptions explaining;
  uint64_t slowest = 0;
  uint64_t failed = 0;
  uint64_t newest = 0;
  auto* explain = app.add_subcommand("explain", "where the time of a call went, and why it went there");
  auto* call =
      explain->add_option("CALL", explaining.call, "its number, or HOST/SIDECAR-NUMBER as in an error's mesh.call");
  auto* by_time = add_some(explain, "--slowest", slowest, "the N slowest of the last minutes");
  auto* by_failure = add_some(explain, "--failed", failed, "the N newest that failed");
  auto* by_age = add_some(explain, "--newest", newest, "the N newest");
  for (CLI::Option* one : {call, by_time, by_failure, by_age}) {
    for (CLI::Option* other : {call, by_time, by_failure, by_age}) {
      if (one != other) one->excludes(other);
    }
  }
  explain->footer(
      "examples:\n  meshctl explain mainpc/main-4711\n  meshctl explain --slowest\n  meshctl explain --failed 20 "
      "--json\n\nWithout arguments: the newest call. Exit code 1 if no such call is remembered.");

  auto* status = app.add_subcommand("status", "every sidecar with its agents and peers");
  status->footer(
      "examples:\n  meshctl -c deploy/mainpc.json status\n  meshctl status --json\n\nExit code 1 if one is not ok, 69 "
      "if one does not answer.");

  double interval_s = 1;
  uint64_t count = 0;
  auto* top = app.add_subcommand("top", "live: calls per second, p50, p99, errors, in flight, calls per batch");
  top->add_option("--interval", interval_s, "seconds between two looks")
      ->check(CLI::Range(0.05, 3600.0))
      ->type_name("S")
      ->capture_default_str();
  top->add_option("--count", count, "so many looks, then stop; 0: until ^C")->type_name("N")->capture_default_str();
  top->footer("examples:\n  meshctl top\n  meshctl top --interval 5 --count 12 --json");

  ProbeOptions probing;
  uint64_t probes = 0;
  auto* probe = app.add_subcommand("probe", "round trips through the mesh beside the same by libzmq alone");
  probe->add_option("WHOM", probing.whom, "HOST, HOST/SIDECAR (its echo answers, no agent is touched), or a service")
      ->required();
  probe->add_option("--count", probes, "round trips per size and path, then stop; otherwise 200 at a time until ^C")
      ->type_name("N");
  probe->add_option("--sizes", probing.sizes, "bytes of the bodies, e.g. 128,1024")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->type_name("BYTES,…")
      ->check(CLI::Range(uint64_t{1}, uint64_t{4} << 20));
  // The other end closes a link on which nothing is said for half a minute.
  probe->add_option("--interval-ms", probing.interval_ms, "wait between two round trips")
      ->type_name("MS")
      ->check(CLI::Range(uint64_t{0}, uint64_t{20'000}));
  probe->add_option("--body", probing.body, "what a service is asked")->type_name("TEXT");
  probe->add_option("--direct", probing.direct, "the agent's own endpoint, to compare with")->type_name("ENDPOINT");
  probe->add_option("--svg", probing.svg, "writes the distribution of latencies as a picture")->type_name("FILE");
  probe->footer(
      "examples:\n  meshctl probe pc2\n  meshctl probe pc2 --count 1000 --sizes 128,65536 --json\n"
      "  meshctl probe translation --body '{\"action\":\"health_check\"}' --direct tcp://127.0.0.1:5801 --count 50\n\n"
      "With --json and without --count each 200 round trips give one line. Exit code 1 if the service answers with an "
      "error.");

  auto* check =
      app.add_subcommand("check", "configuration, sockets and their permissions, agents, peers, versions, clock");
  check->footer(
      "examples:\n  meshctl -c deploy/mainpc.json check\n  meshctl check --json\n\nExit code 1 if anything has to be "
      "mended.");

  CacheOptions keeping;
  const CacheCommands cache = add_cache_commands(app, keeping);
  GpuOptions leasing;
  const GpuCommands gpu = add_gpu_commands(app, leasing);

  std::string shell;
  auto* completion = app.add_subcommand("completion", "prints a completion script");
  completion->add_option("SHELL", shell, "bash, zsh or fish")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}));
  completion->footer(
      "examples:\n  source <(meshctl completion bash)\n  meshctl completion zsh > \"${fpath[1]}/_meshctl\"\n"
      "  meshctl completion fish | source");

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kExitOk : kExitUsage;
  }
  watch_signals();
  using Which = ExplainOptions::Which;
  for (const auto& [option, number, which] : {std::tuple{by_time, slowest, Which::kSlowest},
                                              {by_failure, failed, Which::kFailed},
                                              {by_age, newest, Which::kNewest}}) {
    if (option->count() > 0) explaining.which = which, explaining.count = number > 0 ? number : kSome;
  }
  if (*explain) return run_explain(options, explaining);
  if (*status) return run_status(options);
  if (*top) return run_top(options, interval_s, count);
  if (*check) return run_check(options);
  if (*cache.cache) return run_cache(cache, options, keeping);
  if (*gpu.gpu) return run_gpu(gpu, options, leasing);
  if (*completion) {
    std::cout << completion_script(shell, flattened(words_of(app)));
    return kExitOk;
  }
  if (probes > 0) probing.count = probes;
  return run_probe(options, probing, probes == 0);
}
