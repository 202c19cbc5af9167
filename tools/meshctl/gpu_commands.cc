#include "tools/meshctl/gpu_commands.h"

#include <algorithm>
#include <functional>
#include <iostream>
#include <vector>

#include "common/base/model_key.h"
#include "tools/meshctl/console.h"
#include "tools/meshctl/gpu.h"

namespace mesh::ctl {
namespace {

// The answers to these questions; nothing, and it is told, if one is not to be had.
std::optional<std::vector<Json>> ask_arbiter(const GpuOptions& gpu, const std::vector<std::string>& questions) {
  std::vector<Json> answers;
  for (const std::string& question : questions) {
    auto answer = ask_socket(gpu.admin, question + "\n", kAnswerWait_s);
    if (!answer) {
      tell(answer.error().text,
           "does mesh-arbiter run here? Its gpu.admin (mode 0600) is named with --admin or MESH_GPU_ADMIN");
      return std::nullopt;
    }
    if (answer->contains("error")) {
      tell("the arbiter answered: " + text_at(*answer, "error"), "is it of another version?");
      return std::nullopt;
    }
    answers.push_back(std::move(*answer));
  }
  return answers;
}

std::string hex_of(const std::string& bytes) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string hex;
  for (const char c : bytes) {
    hex += kDigits[static_cast<uint8_t>(c) >> 4];
    hex += kDigits[static_cast<uint8_t>(c) & 15];
  }
  return hex;
}

// The one whose name begins so; told if there is none or are several.
std::optional<std::string> only_one(const std::vector<std::string>& names, const std::string& begin,
                                    const std::string& kind, const std::string& where) {
  std::vector<std::string> found;
  for (const std::string& name : names) {
    if (!begin.empty() && name.starts_with(begin) && std::find(found.begin(), found.end(), name) == found.end())
      found.push_back(name);
  }
  if (found.size() == 1) return found[0];
  tell(found.empty() ? "no " + kind + " is called '" + begin + "'"
                     : "'" + begin + "' is the begin of several " + kind + "s",
       "see " + where);
  return std::nullopt;
}

std::vector<std::string> names_in(const Json& list, std::string_view key) {
  std::vector<std::string> names;
  for (const Json& one : list) names.push_back(text_at(one, key));
  return names;
}

void show(const Options& options, const Json& json, const std::function<std::string()>& text) {
  if (options.json) {
    print(json);
  } else {
    std::cout << text();
  }
}

}  // namespace

int run_gpu_overview(const Options& options, const GpuOptions& gpu) {
  const auto got = ask_arbiter(gpu, {"gpus", "leases", "queue"});
  if (!got) return kExitUnreachable;
  Json all = (*got)[0];
  all.update((*got)[1]);
  all.update((*got)[2]);
  show(options, all, [&] {
    std::string text = gpu_cards_text((*got)[0], paint_for(options));
    if (!flag_at(all, "is_reconciled"))
      text += "The arbiter was just started: nothing is granted before agents showed what they hold.\n";
    return text + "\n" + gpu_leases_text((*got)[1]) + "\n" + gpu_queue_text((*got)[2]);
  });
  return kExitOk;
}

int run_gpu_list(const Options& options, const GpuOptions& gpu, const std::string& what) {
  const auto got = ask_arbiter(gpu, {what});
  if (!got) return kExitUnreachable;
  show(options, (*got)[0], [&] {
    if (what == "leases") return gpu_leases_text((*got)[0]);
    return what == "queue" ? gpu_queue_text((*got)[0]) : gpu_segments_text((*got)[0]);
  });
  return kExitOk;
}

int run_gpu_explain(const Options& options, const GpuOptions& gpu) {
  auto got = ask_arbiter(gpu, {"decisions"});
  if (!got) return kExitUnreachable;
  Json kept = Json::array();
  for (const Json& one : list_at((*got)[0], "decisions")) {
    if (text_at(one, "lease").starts_with(gpu.what)) kept.push_back(one);
  }
  const bool is_found = gpu.what.empty() || !kept.empty();
  if (kept.size() > gpu.count) kept.erase(kept.begin(), kept.end() - static_cast<std::ptrdiff_t>(gpu.count));
  const Json decisions = {{"decisions", kept}};
  if (!is_found) tell("nothing is remembered of a lease '" + gpu.what + "'", "the last 256 decisions are");
  if (is_found || options.json) show(options, decisions, [&] { return gpu_decisions_text(decisions, gpu.count); });
  return is_found ? kExitOk : kExitFailed;
}

int run_gpu_evict(const Options& options, const GpuOptions& gpu) {
  const auto got = ask_arbiter(gpu, {"leases", "segments"});
  if (!got) return kExitUnreachable;
  auto names = names_in(list_at((*got)[0], "leases"), "lease");
  const auto weights = names_in(list_at((*got)[1], "segments"), "segment");
  names.insert(names.end(), weights.begin(), weights.end());
  const auto name = only_one(names, gpu.what, "lease", "meshctl gpu leases, or meshctl gpu segments");
  if (!name) return kExitFailed;
  const auto answer = ask_arbiter(gpu, {"evict " + *name});
  if (!answer) return kExitUnreachable;
  show(options, (*answer)[0], [&] { return gpu_evicted_text((*answer)[0], paint_for(options)); });
  return is_evicted((*answer)[0]) ? kExitOk : kExitFailed;
}

int run_gpu_drain(const Options& options, const GpuOptions& gpu) {
  const auto got = ask_arbiter(gpu, {"gpus"});
  if (!got) return kExitUnreachable;
  const auto name = only_one(names_in(list_at((*got)[0], "gpus"), "gpu"), gpu.what, "GPU", "meshctl gpu");
  if (!name) return kExitFailed;
  const auto answer = ask_arbiter(gpu, {(gpu.undo ? "undrain " : "drain ") + *name});
  if (!answer) return kExitUnreachable;
  show(options, (*answer)[0], [&] { return gpu_drained_text((*answer)[0], paint_for(options)); });
  return kExitOk;
}

int run_gpu_plan(const Options& options, const GpuOptions& gpu) {
  auto size = parse_size(gpu.size);
  bool is_shared = false;
  if (!size) {
    const auto got = ask_arbiter(gpu, {"leases", "segments"});
    if (!got) return kExitUnreachable;
    const std::string key = hex_of(model_key(gpu.size));
    size = known_size((*got)[0], (*got)[1], key);
    is_shared = known_size({}, (*got)[1], key).has_value();
    if (!size) {
      tell("nobody has a model '" + gpu.size + "' now, so that its size is not known",
           "plan for its size: meshctl gpu plan 6GiB");
      return kExitFailed;
    }
  }
  if (*size == 0) return tell("a plan for nothing", "name a size, e.g. 6GiB"), kExitUsage;
  auto got = ask_arbiter(gpu, {"plan " + std::to_string(*size) + " " + gpu.priority});
  if (!got) return kExitUnreachable;
  Json& plan = (*got)[0];
  plan["is_shared_already"] = is_shared;
  show(options, plan, [&] { return gpu_plan_text(plan, paint_for(options)); });
  const Json& cards = list_at(plan, "cards");
  const bool is_possible = is_shared || std::any_of(cards.begin(), cards.end(), [](const Json& card) {
                             return flag_at(card, "fits_now") || at(card, "within_ms").is_number();
                           });
  return is_possible ? kExitOk : kExitFailed;
}

}  // namespace mesh::ctl
