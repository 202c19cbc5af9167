#include "tools/meshctl/explain.h"

#include <algorithm>
#include <array>
#include <cstdio>

namespace mesh::ctl {
namespace {

constexpr size_t kBarWidth = 24;

std::string line(std::string_view label, const std::string& text) { return "  " + left(label, 11) + text + "\n"; }

std::string batch_text(const Json& batch) {
  const double plain = batch["plain_bytes"];
  const double wire = batch["wire_bytes"];
  std::string text = "in a batch of " + batch["envelopes"].dump() + ", " + bytes_text(wire) + " on the wire";
  if (batch["codec"] != "none") text += " (" + bytes_text(plain) + " before " + batch["codec"].get<std::string>() + ")";
  return text;
}

std::string sizes_text(const Json& record) {
  std::string text = "request " + bytes_text(record["bytes"]["request"]);
  if (!record["request_batch"].is_null()) text += " " + batch_text(record["request_batch"]);
  text += "; reply " + bytes_text(record["bytes"]["reply"]);
  if (!record["reply_batch"].is_null()) text += " " + batch_text(record["reply_batch"]);
  return text;
}

std::string budget_text(const Json& budgets) {
  constexpr std::pair<const char*, const char*> hops[] = {
      {"caller", "with the request"}, {"sent", "sent along"}, {"callee", "at the callee"}, {"agent", "at the agent"}};
  std::string text;
  for (const auto& [key, where] : hops) {
    if (budgets[key].is_null()) continue;
    if (!text.empty()) text += ", ";
    text += duration_text(1000 * budgets[key].get<double>()) + " " + where;
  }
  return text;
}

std::string head(const Json& record, const Paint& paint) {
  const Json& result = record["result"];
  const bool is_ok = result["code"] == "OK";
  std::string name = record["service"].get<std::string>();
  if (const std::string method = record["method"]; !method.empty()) name += "/" + method;
  std::string text = paint(Tone::kStrong, record["call"].get<std::string>()) + "  " + name + "  " +
                     paint(is_ok ? Tone::kGood : Tone::kBad, result["code"].get<std::string>()) + " after " +
                     duration_text(record["total_us"]) + ", " + duration_text(1000.0 * record["age_ms"].get<double>()) +
                     " ago\n";
  if (!is_ok) {
    text += line("ended at", result["hop"].get<std::string>() + ", stage " + result["stage"].get<std::string>() +
                                 ", by rule " + result["rule"].get<std::string>());
  }
  return text;
}

std::string candidates(const Json& record) {
  std::string text;
  for (const Json& candidate : record["candidates"]) {
    const std::string instance = candidate["instance"];
    const bool is_chosen = instance == record["chosen"];
    text += line(text.empty() ? "candidates" : "",
                 (is_chosen ? "→ " : "  ") + instance + "  " + candidate["state"].get<std::string>() + ", " +
                     candidate["in_flight"].dump() + " in flight" + (candidate["own_host"] ? ", own host" : "") +
                     (is_chosen ? "; chosen: " + record["why"].get<std::string>() : ""));
  }
  return text;
}

std::string stages(const Json& record, const Paint& paint) {
  const double total = std::max(1.0, record["total_us"].get<double>());
  std::vector<std::vector<std::string>> rows;
  for (const Json& stage : record["stages"]) {
    const double us = stage["us"];
    std::array<char, 16> share{};
    std::snprintf(share.data(), share.size(), "%.1f %%", 100 * us / total);
    rows.push_back({"    " + stage["stage"].get<std::string>(), stage["host"].get<std::string>(), duration_text(us),
                    share.data(), paint(Tone::kDim, bar(us / total, kBarWidth))});
  }
  if (rows.empty()) return "";
  return "  where the time went\n" + table(rows, {2, 3});
}

}  // namespace

double accounted_fraction(const Json& record) {
  double sum = 0;
  for (const Json& stage : record["stages"]) sum += stage["us"].get<double>();
  return sum / std::max(1.0, record["total_us"].get<double>());
}

std::string explain_text(const Json& record, const Paint& paint) {
  std::string text = head(record, paint);
  const Json& caller = record["caller"];
  text += line("caller", "client " + caller["client"].dump() + " at port " + caller["port"].get<std::string>() + ", " +
                             record["priority"].get<std::string>() + ", " + record["lane"].get<std::string>() +
                             " lane, attempts: " + record["attempts"].dump());
  text += candidates(record);
  text += stages(record, paint);
  text += line("sizes", sizes_text(record));
  text += line("time left", budget_text(record["budget_ms"]));
  if (const Json& clock = record["clock"]; !clock.is_null()) {
    text += line("clocks", "theirs is " + clock["offset_us"].dump() + " ± " + clock["bound_us"].dump() +
                               " µs ahead: so well is known which half of the link took how long");
  }
  return text;
}

}  // namespace mesh::ctl
