#include "tools/meshctl/console.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <iostream>

namespace mesh::ctl {

Paint paint_for(const Options& options) {
  const char* no_colour = std::getenv("NO_COLOR");
  return Paint(!options.json && isatty(STDOUT_FILENO) == 1 && (no_colour == nullptr || *no_colour == '\0'));
}

void tell(const std::string& text, const std::string& hint) {
  std::fprintf(stderr, "meshctl: %s%s%s\n", printable(text).c_str(), hint.empty() ? "" : " — ",
               printable(hint).c_str());
}

void tell_missing(const Answers& answers) {
  for (const auto& [target, error] : answers.missing) tell(target->name() + ": " + error.text, error.hint);
}

int none_answers(const Targets& targets) {
  tell("no sidecar of the configuration answers here (" + targets.names() + ")", "see meshctl check");
  return kExitUnreachable;
}

void print(const Json& json) { std::cout << json.dump(2, ' ', false, Json::error_handler_t::replace) << "\n"; }

Loaded load(const Options& options) {
  Loaded loaded{load_targets(options.configs)};
  for (const ConfigFinding& found : loaded.targets.findings) {
    if (!found.is_error) continue;
    const std::string& path = found.finding.path;
    tell(found.file + ": " + path + (path.empty() ? "" : ": ") + found.finding.text, found.finding.hint);
  }
  if (loaded.targets.has_errors()) loaded.code = kExitConfig;
  if (options.sidecar.empty() || loaded.code != kExitOk) return loaded;
  const std::string known = loaded.targets.names();
  std::erase_if(loaded.targets.sidecars, [&](const Target& target) { return target.name() != options.sidecar; });
  if (loaded.targets.sidecars.empty()) {
    tell("the configuration has no sidecar '" + options.sidecar + "'", "there is " + known);
    loaded.code = kExitUsage;
  }
  return loaded;
}

}  // namespace mesh::ctl
