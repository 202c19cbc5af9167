#include "tools/meshctl/cache_cli.h"

namespace mesh::ctl {
namespace {

void add_purge(CLI::App& app, CacheOptions& cache) {
  app.add_option("--service", cache.service, "of this service")->type_name("S");
  auto* method = app.add_option("--method", cache.method, "replies of this method")->type_name("M");
  auto* tag =
      app.add_option("--tag", cache.tag, "all that carries it, as the contract makes it: user:ann")->type_name("T");
  auto* key = app.add_option("--key", cache.key, "one reply, by its 32 digits")->type_name("K");
  auto* all = app.add_flag("--all", cache.all, "everything of all services");
  for (CLI::Option* one : {method, tag, key, all}) {
    for (CLI::Option* other : {method, tag, key, all}) {
      if (one != other) one->excludes(other);
    }
  }
  app.footer(
      "examples:\n  meshctl cache purge --service tts --tag user:ann\n  meshctl cache purge --service tts --method "
      "say\n"
      "  meshctl cache purge --key 0f3c…\n  meshctl cache purge --all --json\n\n"
      "Every sidecar that keeps such replies, on whatever host, gives them no more once this has ended with exit code "
      "0.\n"
      "Exit code 1: somebody has not confirmed it within 5 s, and is named; he may still give them to agents beside "
      "him.\n"
      "Only root and the user that the sidecar runs as may do this; its log says who did.");
}

void add_why(CLI::App& app, CacheOptions& cache) {
  auto* call = app.add_option("CALL", cache.call, "its number, or HOST/SIDECAR-NUMBER as in an error's mesh.call");
  app.add_flag("--newest", cache.newest, "the newest call, as without arguments")->excludes(call);
  app.footer(
      "examples:\n  meshctl cache why --newest\n  meshctl cache why mainpc/main-4711\n\n"
      "Exit code 1 if no such call is remembered.");
}

}  // namespace

CacheCommands add_cache_commands(CLI::App& app, CacheOptions& cache) {
  CacheCommands commands;
  commands.cache = app.add_subcommand("cache", "replies that are kept: how good they are, which, why not, and away");
  commands.cache->require_subcommand(1);
  commands.cache->footer(
      "examples:\n  meshctl cache stats\n  meshctl cache purge --service tts --tag user:ann\n  meshctl cache why\n\n"
      "What is kept of which method says the contract; sidecar/README.md tells the rules.");
  commands.stats =
      commands.cache->add_subcommand("stats", "hits, misses and bytes per tier, and what more memory would do");
  commands.stats->footer(
      "example:\n  meshctl cache stats --json\n\nThe curve tells what share of the requests of the last while the "
      "memory "
      "of a sidecar would have\nanswered, were it so many times as large (limits.cache_local_bytes), with LRU.");
  commands.keys = commands.cache->add_subcommand("keys", "what is kept, most asked for first: sizes and ages");
  commands.keys->add_option("--service", cache.service, "of this service only")->type_name("S");
  commands.keys->add_option("--limit", cache.limit, "so many of each sidecar")
      ->type_name("N")
      ->check(CLI::Range(uint64_t{1}, uint64_t{1000}))
      ->capture_default_str();
  commands.keys->footer("examples:\n  meshctl cache keys --service tts --limit 50\n  meshctl cache keys --json");
  commands.get = commands.cache->add_subcommand("get", "one kept reply: size, age, tags, time left");
  commands.get->add_option("KEY", cache.key, "32 hexadecimal digits, as keys, explain and replies show them")
      ->required();
  commands.get->add_flag("--body", cache.with_body, "and what it says, up to 64 KiB");
  commands.get->footer(
      "examples:\n  meshctl cache get 0f3c…\n  meshctl cache get 0f3c… --body --json\n\nExit code 1 if nobody here has "
      "it.");
  commands.purge = commands.cache->add_subcommand("purge", "gives something no more, wherever it is kept");
  add_purge(*commands.purge, cache);
  commands.why = commands.cache->add_subcommand("why", "why a call was or was not answered with what is kept");
  add_why(*commands.why, cache);
  for (CLI::App* each : {commands.cache, commands.stats, commands.keys, commands.get, commands.purge, commands.why}) {
    each->fallthrough();
  }
  return commands;
}

int run_cache(const CacheCommands& commands, const Options& options, const CacheOptions& cache) {
  if (*commands.stats) return run_cache_stats(options);
  if (*commands.keys) return run_cache_keys(options, cache);
  if (*commands.get) return run_cache_get(options, cache);
  if (*commands.purge) return run_cache_purge(options, cache);
  return run_cache_why(options, cache);
}

}  // namespace mesh::ctl
