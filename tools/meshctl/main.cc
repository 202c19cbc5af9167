// meshctl: what the sidecars of this computer do and did, for their operator.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <thread>

#include "tools/meshctl/check.h"
#include "tools/meshctl/completion.h"
#include "tools/meshctl/explain.h"
#include "tools/meshctl/probe.h"
#include "tools/meshctl/status.h"
#include "tools/meshctl/top.h"

namespace {

using namespace mesh::ctl;  // main marries everything

constexpr const char* kExitTable =
    "Exit codes: 0 done, all is well · 1 a check failed, or nothing was found · 64 wrong usage\n"
    "            69 a sidecar cannot be reached · 78 errors in the configuration";

volatile std::sig_atomic_t stopped = 0;

struct Options {
  std::vector<std::string> configs;
  bool json = false;
  std::string sidecar;  // only this one
};

Paint paint_for(const Options& options) {
  const char* no_colour = std::getenv("NO_COLOR");
  return Paint(!options.json && isatty(STDOUT_FILENO) == 1 && (no_colour == nullptr || *no_colour == '\0'));
}

int fail(const mesh::Error& error, int code) {
  std::fprintf(stderr, "meshctl: %s%s%s\n", error.text.c_str(), error.hint.empty() ? "" : " — ", error.hint.c_str());
  return code;
}

// Those that were asked for; nothing if their configuration is not usable, which was told.
std::optional<Targets> load(const Options& options) {
  Targets targets = load_targets(options.configs);
  for (const ConfigFinding& found : targets.findings) {
    if (!found.is_error) continue;
    std::fprintf(stderr, "%s: %s: %s — %s\n", found.file.c_str(), found.finding.path.c_str(),
                 found.finding.text.c_str(), found.finding.hint.c_str());
  }
  if (targets.has_errors()) return std::nullopt;
  if (!options.sidecar.empty()) {
    std::erase_if(targets.sidecars, [&](const Target& target) { return target.name() != options.sidecar; });
  }
  return targets;
}

void print(const Json& json) { std::cout << json.dump(2, ' ', false, Json::error_handler_t::replace) << "\n"; }

struct ExplainOptions {
  std::string call;
  size_t slowest = 0;
  size_t failed = 0;
  size_t newest = 0;
};

int run_explain(const Options& options, const ExplainOptions& which) {
  Options narrowed = options;
  std::string line = "explain newest 1";
  size_t count = 1;
  if (which.slowest > 0) line = "explain slowest " + std::to_string(count = which.slowest);
  if (which.failed > 0) line = "explain failed " + std::to_string(count = which.failed);
  if (which.newest > 0) line = "explain newest " + std::to_string(count = which.newest);
  if (!which.call.empty()) {
    // HOST/SIDECAR-NUMBER, as errors name it, or the number alone.
    const size_t dash = which.call.rfind('-');
    if (dash != std::string::npos) narrowed.sidecar = which.call.substr(0, dash);
    line = "explain " + which.call.substr(dash == std::string::npos ? 0 : dash + 1);
  }
  const auto targets = load(narrowed);
  if (!targets) return kExitConfig;
  std::vector<Json> records;
  const auto answers = ask_all(*targets, line);
  if (answers.empty()) {
    std::fprintf(stderr, "meshctl: no sidecar of the configuration answers here; see meshctl check\n");
    return kExitUnreachable;
  }
  for (const auto& [target, answer] : answers) {
    for (const Json& record : answer["records"]) records.push_back(record);
  }
  const char* key = which.slowest > 0 ? "total_us" : "age_ms";
  std::stable_sort(records.begin(), records.end(), [&](const Json& a, const Json& b) {
    return which.slowest > 0 ? a[key].get<double>() > b[key].get<double>()
                             : a[key].get<double>() < b[key].get<double>();
  });
  if (records.size() > count) records.resize(count);
  if (options.json) {
    print({{"records", records}});
  } else {
    for (const Json& record : records) std::cout << explain_text(record, paint_for(options)) << "\n";
  }
  if (!records.empty()) return kExitOk;
  std::fprintf(stderr, "meshctl: no such call is remembered; see meshctl explain --help\n");
  return kExitFailed;
}

int run_status(const Options& options) {
  const auto targets = load(options);
  if (!targets) return kExitConfig;
  Json all = Json::array();
  bool all_ok = true;
  for (const auto& [target, health] : ask_all(*targets, "health")) {
    all.push_back(health);
    all_ok = all_ok && health["status"] == "ok";
    if (!options.json) std::cout << status_text(health, paint_for(options));
  }
  if (options.json) print({{"sidecars", all}});
  if (all.empty()) {
    std::fprintf(stderr, "meshctl: no sidecar of the configuration answers here; see meshctl check\n");
    return kExitUnreachable;
  }
  return all_ok ? kExitOk : kExitFailed;
}

int run_top(const Options& options, double interval_s, uint64_t count) {
  const auto targets = load(options);
  if (!targets) return kExitConfig;
  const auto look = [&] {
    Samples samples;
    for (const auto& [target, stats] : ask_all(*targets, "stats")) samples[target->name()] = sample_of(stats);
    return samples;
  };
  const bool redraw = !options.json && isatty(STDOUT_FILENO) == 1;
  Samples before = look();
  if (before.empty()) return kExitUnreachable;
  auto looked_at = std::chrono::steady_clock::now();
  for (uint64_t i = 0; (count == 0 || i < count) && stopped == 0; ++i) {
    std::this_thread::sleep_for(std::chrono::duration<double>(interval_s));
    if (stopped != 0) break;
    Samples after = look();
    const auto now = std::chrono::steady_clock::now();
    const Json result = rates(before, after, std::chrono::duration<double>(now - looked_at).count());
    if (options.json) {
      std::cout << result.dump() << std::endl;
    } else {
      if (redraw) std::cout << "\x1b[H\x1b[2J";
      std::cout << rates_text(result, paint_for(options)) << std::endl;
    }
    before = std::move(after);
    looked_at = now;
  }
  return kExitOk;
}

int run_probe(const Options& options, const ProbeOptions& probing, bool live) {
  const auto targets = load(options);
  if (!targets) return kExitConfig;
  const bool show = isatty(STDERR_FILENO) == 1;
  Json before;
  do {
    int shown = -1;
    const auto result = probe(*targets, probing, [&](double done) {
      const int percent = static_cast<int>(100 * done);
      if (show && percent != shown) std::fprintf(stderr, "\r%3d %% of the round trips", shown = percent);
    });
    if (show) std::fprintf(stderr, "\r\x1b[K");
    if (!result) return fail(result.error(), result.error().rule == "probe" ? kExitUsage : kExitUnreachable);
    if (options.json) {
      print(*result);
    } else {
      std::cout << probe_text(*result, before, paint_for(options)) << std::endl;
    }
    before = *result;
  } while (live && stopped == 0);
  return kExitOk;
}

int run_check(const Options& options) {
  const Targets targets = load_targets(options.configs);
  const auto findings = check(targets, options.configs);
  if (options.json) {
    print(check_json(findings));
  } else {
    std::cout << check_text(findings, paint_for(options));
  }
  if (targets.has_errors()) return kExitConfig;
  return passes(findings) ? kExitOk : kExitFailed;
}

// The words of every subcommand, as CLI11 knows them.
Words words_of(CLI::App& app) {
  Words words;
  const auto options_of = [](CLI::App& of) {
    std::vector<std::string> names;
    for (const CLI::Option* option : of.get_options()) {
      for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
    }
    return names;
  };
  words[""] = options_of(app);
  for (CLI::App* command : app.get_subcommands({})) {
    words[""].push_back(command->get_name());
    words[command->get_name()] = options_of(*command);
  }
  return words;
}

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGINT, [](int) { stopped = 1; });
  CLI::App app(
      "What the sidecars of this computer do and did. Finds their admin sockets by the hosts' configurations.");
  app.require_subcommand(1);
  app.footer(std::string("examples:\n  meshctl --config /etc/mesh/mainpc.json status\n  meshctl explain --slowest 3\n"
                         "  meshctl probe pc2 --count 500 --svg probe.svg\n\n") +
             kExitTable);
  Options options;
  app.add_option("-c,--config", options.configs, "a host's configuration; may be given for several hosts")
      ->envname("MESH_CONFIG")
      ->default_val(std::vector<std::string>{"/etc/mesh/mesh.json"});
  app.add_flag("--json", options.json, "one JSON document instead of text");
  app.add_option("--sidecar", options.sidecar, "only this one, HOST/NAME");

  ExplainOptions which;
  auto* explain = app.add_subcommand("explain", "where the time of a call went, and why it went there");
  explain->add_option("CALL", which.call,
                      "its number, or HOST/SIDECAR-NUMBER as errors name it (\"mesh\": {\"call\": …})");
  explain->add_option("--slowest", which.slowest, "the N slowest of the last minutes")
      ->expected(0, 1)
      ->default_str("5");
  explain->add_option("--failed", which.failed, "the N newest that failed")->expected(0, 1)->default_str("5");
  explain->add_option("--newest", which.newest, "the N newest")->expected(0, 1)->default_str("5");
  explain->footer(
      "examples:\n  meshctl explain mainpc/main-4711\n  meshctl explain --slowest\n  meshctl explain --failed 20 "
      "--json");

  auto* status = app.add_subcommand("status", "every sidecar here with its agents and peers");
  status->footer("example:\n  meshctl -c deploy/mainpc.json status\n\nExit code 1 if any is not ok.");

  double interval_s = 1;
  uint64_t count = 0;
  auto* top = app.add_subcommand("top", "live: calls per second, p50, p99, errors, in flight, calls per batch");
  top->add_option("--interval", interval_s, "seconds between two looks")
      ->check(CLI::Range(0.05, 3600.0))
      ->capture_default_str();
  top->add_option("--count", count, "so many looks, then stop; 0: until ^C")->capture_default_str();
  top->footer("examples:\n  meshctl top\n  meshctl top --interval 5 --count 12 --json");

  ProbeOptions probing;
  uint64_t probes = 0;
  auto* probe = app.add_subcommand("probe", "round trips through the mesh beside the same by libzmq alone");
  probe->add_option("WHOM", probing.whom, "HOST, HOST/SIDECAR (its echo answers, no agent is touched), or a service")
      ->required();
  probe->add_option("--count", probes, "round trips per size and path, then stop; otherwise 200 at a time until ^C");
  probe->add_option("--sizes", probing.sizes, "bytes of the bodies")->delimiter(',')->check(CLI::Range(1, 4 << 20));
  probe->add_option("--interval-ms", probing.interval_ms, "wait between two round trips")->check(CLI::Range(0, 60000));
  probe->add_option("--body", probing.body, "what a service is asked");
  probe->add_option("--direct", probing.direct, "the agent's own endpoint, to compare with, e.g. tcp://127.0.0.1:5701");
  probe->add_option("--svg", probing.svg, "writes the distribution of latencies as a picture");
  probe->footer(
      "examples:\n  meshctl probe pc2\n  meshctl probe pc2 --count 1000 --sizes 128,65536 --json\n"
      "  meshctl probe translation --body '{\"action\":\"health_check\"}' --direct tcp://127.0.0.1:5801 --count 50");

  auto* check =
      app.add_subcommand("check", "configuration, sockets and their permissions, agents, peers, versions, clock");
  check->footer("example:\n  meshctl -c deploy/mainpc.json check\n\nExit code 1 if anything has to be mended.");

  std::string shell;
  auto* completion = app.add_subcommand("completion", "prints a completion script");
  completion->add_option("SHELL", shell, "bash, zsh or fish")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}));
  completion->footer("example:\n  source <(meshctl completion bash)");

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kExitOk : kExitUsage;
  }
  // An option whose number is left out means its default.
  constexpr size_t kSome = 5;
  for (const auto& [name, number] :
       {std::pair{"--slowest", &which.slowest}, {"--failed", &which.failed}, {"--newest", &which.newest}}) {
    if (explain->count(name) > 0 && *number == 0) *number = kSome;
  }
  if (*explain) return run_explain(options, which);
  if (*status) return run_status(options);
  if (*top) return run_top(options, interval_s, count);
  if (*check) return run_check(options);
  if (*completion) {
    std::cout << completion_script(shell, words_of(app));
    return kExitOk;
  }
  if (probes > 0) probing.count = probes;
  return run_probe(options, probing, probes == 0 && !options.json);
}
