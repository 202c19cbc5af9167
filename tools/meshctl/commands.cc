#include "tools/meshctl/commands.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <thread>

#include "tools/meshctl/check.h"
#include "tools/meshctl/console.h"
#include "tools/meshctl/explain.h"
#include "tools/meshctl/status.h"
#include "tools/meshctl/top.h"

namespace mesh::ctl {
namespace {

volatile std::sig_atomic_t stopped = 0;

// false if a signal ended it.
bool wait(double seconds) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  while (stopped == 0) {
    const auto left = until - std::chrono::steady_clock::now();
    if (left <= left.zero()) return true;
    // sleep_for() goes on sleeping after a signal.
    std::this_thread::sleep_for(std::min<std::chrono::duration<double>>(left, std::chrono::milliseconds(50)));
  }
  return false;
}

// As many lines as the terminal has, so that the next ones can be drawn over them.
std::string cut_to_screen(const std::string& text) {
  winsize size{};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_row < 2) return text;
  size_t end = 0;
  for (int row = 1; row < size.ws_row && end != std::string::npos; ++row) end = text.find('\n', end == 0 ? 0 : end + 1);
  return end == std::string::npos ? text : text.substr(0, end);
}

}  // namespace

void watch_signals() {
  for (const int signum : {SIGINT, SIGTERM}) {
    std::signal(signum, [](int) { stopped = 1; });
  }
}

int run_explain(const Options& options, const ExplainOptions& explaining) {
  using Which = ExplainOptions::Which;
  Options narrowed = options;
  const char* which = explaining.which == Which::kSlowest  ? "slowest"
                      : explaining.which == Which::kFailed ? "failed"
                                                           : "newest";
  std::string line = std::string("explain ") + which + " " + std::to_string(explaining.count);
  size_t count = explaining.count;
  if (!explaining.call.empty()) {
    const auto call = parse_call(explaining.call);
    if (!call) {
      tell("'" + explaining.call + "' names no call", "a number, or HOST/SIDECAR-NUMBER as in an error's mesh.call");
      return kExitUsage;
    }
    if (!call->sidecar.empty()) narrowed.sidecar = call->sidecar;
    line = "explain " + std::to_string(call->number);
    count = SIZE_MAX;  // the same number at several sidecars is several calls
  }
  const auto [targets, code] = load(narrowed);
  if (code != kExitOk) return code;
  const Answers answers = ask_all(targets, line);
  tell_missing(answers);
  if (answers.given.empty()) return none_answers(targets);
  std::vector<Json> records;
  for (const auto& [target, answer] : answers.given) {
    for (const Json& record : list_at(answer, "records")) records.push_back(record);
  }
  std::stable_sort(records.begin(), records.end(), [&](const Json& a, const Json& b) {
    return explaining.which == Which::kSlowest ? number_at(a, "total_us") > number_at(b, "total_us")
                                               : number_at(a, "age_ms") < number_at(b, "age_ms");
  });
  if (records.size() > count) records.resize(count);
  if (options.json) {
    print({{"records", records}});
  } else {
    for (const Json& record : records) std::cout << explain_text(record, paint_for(options)) << "\n";
  }
  if (!records.empty()) return kExitOk;
  if (!answers.missing.empty()) return kExitUnreachable;
  tell("no such call is remembered", "see meshctl explain --help");
  return kExitFailed;
}

int run_status(const Options& options) {
  const auto [targets, code] = load(options);
  if (code != kExitOk) return code;
  const Answers answers = ask_all(targets, "health");
  const Paint paint = paint_for(options);
  Json sidecars = Json::array();
  Json missing = Json::array();
  Json elsewhere = Json::array();
  bool all_ok = true;
  std::string text;
  for (const auto& [target, health] : answers.given) {
    sidecars.push_back(health);
    all_ok = all_ok && text_at(health, "status") == "ok";
    text += status_text(health, paint);
  }
  for (const auto& [target, error] : answers.missing) {
    missing.push_back({{"sidecar", target->name()}, {"text", error.text}, {"hint", error.hint}});
    text += missing_text(target->name(), error.text, paint);
  }
  for (const Target* target : answers.elsewhere) {
    elsewhere.push_back(target->name());
    text += elsewhere_text(target->name(), paint);
  }
  if (options.json) {
    print({{"sidecars", sidecars}, {"missing", missing}, {"elsewhere", elsewhere}});
  } else {
    std::cout << text;
  }
  if (answers.given.empty()) return none_answers(targets);
  tell_missing(answers);
  if (!answers.missing.empty()) return kExitUnreachable;
  return all_ok ? kExitOk : kExitFailed;
}

int run_top(const Options& options, double interval_s, uint64_t count) {
  const auto [targets, code] = load(options);
  if (code != kExitOk) return code;
  const auto look = [&targets = targets] {
    Samples samples;
    for (const auto& [target, stats] : ask_all(targets, "stats").given) samples[target->name()] = sample_of(stats);
    return samples;
  };
  const bool redraw = !options.json && isatty(STDOUT_FILENO) == 1;
  Samples before = look();
  if (before.empty()) {
    tell_missing(ask_all(targets, "stats"));
    return none_answers(targets);
  }
  auto looked_at = std::chrono::steady_clock::now();
  for (uint64_t i = 0; (count == 0 || i < count) && wait(interval_s); ++i) {
    Samples after = look();
    const auto now = std::chrono::steady_clock::now();
    const Json result = rates(before, after, std::chrono::duration<double>(now - looked_at).count());
    if (options.json) {
      std::cout << result.dump(-1, ' ', false, Json::error_handler_t::replace) << std::endl;
    } else if (redraw) {
      std::cout << "\x1b[H\x1b[J" << cut_to_screen(rates_text(result, paint_for(options))) << std::flush;
    } else {
      std::cout << rates_text(result, paint_for(options)) << std::endl;
    }
    before = std::move(after);
    looked_at = now;
  }
  if (redraw) std::cout << std::endl;
  return kExitOk;
}

int run_probe(const Options& options, const ProbeOptions& probing, bool live) {
  const auto [targets, code] = load(options);
  if (code != kExitOk) return code;
  const bool show = isatty(STDERR_FILENO) == 1;
  Json before;
  do {
    int shown = -1;
    const auto result = probe(targets, probing, [&](double done) {
      const int percent = static_cast<int>(100 * done);
      if (show && percent != shown) std::fprintf(stderr, "\r%3d %% of the round trips", shown = percent);
      return stopped == 0;
    });
    if (show) std::fprintf(stderr, "\r\x1b[K");
    if (!result) {
      const Error& error = result.error();
      tell(error.text, error.hint);
      if (error.rule == "probe") return kExitUsage;
      const bool unreachable = error.code == Code::kNotSent || error.code == Code::kDeadline;
      return unreachable ? kExitUnreachable : kExitFailed;
    }
    if (options.json && live) {
      std::cout << result->dump(-1, ' ', false, Json::error_handler_t::replace) << std::endl;
    } else if (options.json) {
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

}  // namespace mesh::ctl
