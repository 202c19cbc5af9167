#include "tools/meshctl/explain.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>

namespace mesh::ctl {
namespace {

constexpr size_t kBarWidth = 24;

std::string line(std::string_view label, const std::string& text) { return "  " + left(label, 11) + text + "\n"; }

std::string batch_text(const Json& batch) {
  std::string text = " in a batch of " + std::to_string(count_at(batch, "envelopes")) + ", " +
                     bytes_text(number_at(batch, "wire_bytes")) + " on the wire";
  if (const std::string codec = text_at(batch, "codec"); !codec.empty() && codec != "none") {
    text += " (" + bytes_text(number_at(batch, "plain_bytes")) + " before " + codec + ")";
  }
  return text;
}

std::string sizes_text(const Json& record) {
  const Json& bytes = at(record, "bytes");
  std::string text = "request " + bytes_text(number_at(bytes, "request"));
  if (const Json& batch = at(record, "request_batch"); batch.is_object()) text += batch_text(batch);
  text += "; reply " + bytes_text(number_at(bytes, "reply"));
  if (const Json& batch = at(record, "reply_batch"); batch.is_object()) text += batch_text(batch);
  return text;
}

std::string budget_text(const Json& budgets) {
  constexpr std::pair<const char*, const char*> hops[] = {
      {"caller", "with the request"}, {"sent", "sent along"}, {"callee", "at the callee"}, {"agent", "at the agent"}};
  std::string text;
  for (const auto& [key, where] : hops) {
    if (!at(budgets, key).is_number()) continue;
    if (!text.empty()) text += ", ";
    text += duration_text(1000 * number_at(budgets, key)) + " " + where;
  }
  return text;
}

std::string head(const Json& record, const Paint& paint) {
  const Json& result = at(record, "result");
  const std::string code = text_at(result, "code");
  const bool is_ok = code == "OK";
  std::string name = text_at(record, "service");
  if (const std::string method = text_at(record, "method"); !method.empty()) name += "/" + method;
  std::string text = paint(Tone::kStrong, text_at(record, "call")) + "  " + name + "  " +
                     paint(is_ok ? Tone::kGood : Tone::kBad, code) + " after " +
                     duration_text(number_at(record, "total_us")) + ", " +
                     duration_text(1000 * number_at(record, "age_ms")) + " ago\n";
  if (!is_ok) {
    text += line("ended at", text_at(result, "hop") + ", stage " + text_at(result, "stage") + ", by rule " +
                                 text_at(result, "rule"));
    if (const std::string hint = text_at(result, "hint"); !hint.empty()) text += line("hint", hint);
  }
  return text;
}

std::string cache_text(const Json& cache) {
  std::string text = text_at(cache, "verdict") + ", key " + text_at(cache, "key");
  if (const std::string tier = text_at(cache, "tier"); !tier.empty()) {
    text += ", kept " + tier + " for " + duration_text(1000 * number_at(cache, "age_ms"));
  }
  if (const std::string call = text_at(cache, "fetched_by"); !call.empty()) text += ", fetched by call " + call;
  return text;
}

// How soon an instance would have answered a call that computes with a model.
std::string forecast_text(const Json& forecast) {
  if (flag_at(forecast, "never_fits")) return "    the model fits on no card there";
  std::string text = "    in " + duration_text(number_at(forecast, "total_us"));
  const char* const before = flag_at(forecast, "is_known") ? ": " : ", as guessed: ";
  text += before + ("queue " + duration_text(number_at(forecast, "wait_us")));
  text += ", model " + text_at(forecast, "model");
  if (number_at(forecast, "load_us") > 0) text += " " + duration_text(number_at(forecast, "load_us"));
  text += ", way " + duration_text(number_at(forecast, "way_us"));
  text += ", agent " + duration_text(number_at(forecast, "serve_us"));
  if (const std::string pressure = text_at(forecast, "pressure"); !pressure.empty() && pressure != "green")
    text += ", pressure " + pressure;
  if (const std::string band = text_at(forecast, "band"); !band.empty() && band != "cool") text += ", card " + band;
  return text;
}

std::string candidates(const Json& record) {
  std::string text;
  const std::string chosen = text_at(record, "chosen");
  for (const Json& candidate : list_at(record, "candidates")) {
    const std::string instance = text_at(candidate, "instance");
    const bool is_chosen = !chosen.empty() && instance == chosen;
    text += line(text.empty() ? "candidates" : "", (is_chosen ? "→ " : "  ") + instance + "  " +
                                                       text_at(candidate, "state") + ", " +
                                                       std::to_string(count_at(candidate, "in_flight")) + " in flight" +
                                                       (flag_at(candidate, "own_host") ? ", own host" : "") +
                                                       (is_chosen ? "; chosen: " + text_at(record, "why") : ""));
    if (const Json& forecast = at(candidate, "forecast"); forecast.is_object())
      text += line("", forecast_text(forecast));
  }
  return text.empty() ? line("candidates", "none") : text;
}

std::string earlier(const Json& record) {
  std::string text;
  for (const Json& attempt : list_at(record, "earlier")) {
    text +=
        line(text.empty() ? "earlier" : "", "  " + text_at(attempt, "instance") + "  gave " + text_at(attempt, "code") +
                                                " after " + duration_text(number_at(attempt, "us")));
  }
  return text;
}

std::string stages(const Json& record, const Paint& paint) {
  const double total = std::max(1.0, number_at(record, "total_us"));
  std::vector<std::vector<std::string>> rows;
  const auto add = [&](std::string name, std::string host, double us, bool with_bar) {
    std::array<char, 16> share{};
    std::snprintf(share.data(), share.size(), "%.1f %%", 100 * us / total);
    rows.push_back({"    " + std::move(name), std::move(host), duration_text(us), share.data(),
                    with_bar ? paint(Tone::kDim, bar(us / total, kBarWidth)) : ""});
  };
  double sum = 0;
  for (const Json& stage : list_at(record, "stages")) {
    const double us = number_at(stage, "us");
    add(text_at(stage, "stage"), text_at(stage, "host"), us, true);
    sum += us;
  }
  if (rows.empty()) return "";
  if (const double rest = number_at(record, "total_us") - sum; rest >= 1) add("in no stage", "", rest, true);
  add("total", "", number_at(record, "total_us"), false);
  return "  where the time went\n" + table(rows, {2, 3});
}

}  // namespace

std::optional<CallName> parse_call(std::string_view text) {
  CallName name;
  // Sidecars may have dashes in their names: the number is behind the last.
  const size_t dash = text.rfind('-');
  if (dash != std::string_view::npos) {
    name.sidecar = text.substr(0, dash);
    if (name.sidecar.find('/') == std::string::npos) return std::nullopt;
    text.remove_prefix(dash + 1);
  }
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), name.number);
  if (status != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return name;
}

std::string explain_text(const Json& record, const Paint& paint) {
  std::string text = head(record, paint);
  const Json& caller = at(record, "caller");
  text +=
      line("caller", "client " + std::to_string(count_at(caller, "client")) + " at port " + text_at(caller, "port") +
                         ", " + text_at(record, "priority") + ", " + text_at(record, "lane") +
                         " lane, attempts: " + std::to_string(count_at(record, "attempts")));
  if (const Json& cache = at(record, "cache"); cache.is_object()) text += line("cache", cache_text(cache));
  text += earlier(record);
  text += candidates(record);
  text += stages(record, paint);
  text += line("sizes", sizes_text(record));
  text += line("time left", budget_text(at(record, "budget_ms")));
  if (const Json& clock = at(record, "clock"); clock.is_object()) text += line("clocks", clock_text(clock));
  return text;
}

std::string clock_text(const Json& clock) {
  const double offset_us = number_at(clock, "offset_us");
  return "theirs is " + duration_text(std::abs(offset_us)) + (offset_us < 0 ? " behind" : " ahead") + " ± " +
         duration_text(number_at(clock, "bound_us")) + ": so well is known which half of the link took how long";
}

}  // namespace mesh::ctl
