#include <array>
#include <cmath>
#include <cstdio>

#include "tools/meshctl/explain.h"
#include "tools/meshctl/probe.h"

namespace mesh::ctl {
namespace {

std::string ratio_text(double mesh, double direct) {
  if (direct <= 0) return "";
  std::array<char, 24> text{};
  std::snprintf(text.data(), text.size(), "%.2f", mesh / direct);
  return text.data();
}

std::string paths_table(const Json& result) {
  std::vector<std::vector<std::string>> rows = {{"bytes", "path", "p50", "p90", "p99", "max", "added p50", "ratio"}};
  for (const Json& size : list_at(result, "sizes")) {
    const Json& direct = at(size, "direct");
    for (const char* path : {"mesh", "direct"}) {
      const Json& figures = at(size, path);
      if (!figures.is_object()) continue;
      const bool compares = path == std::string_view("mesh") && direct.is_object();
      rows.push_back({std::to_string(count_at(size, "bytes")),
                      path == std::string_view("mesh") ? "mesh" : "libzmq, direct",
                      duration_text(number_at(figures, "p50_us")), duration_text(number_at(figures, "p90_us")),
                      duration_text(number_at(figures, "p99_us")), duration_text(number_at(figures, "max_us")),
                      compares ? duration_text(number_at(size, "added_p50_us")) : "",
                      compares ? ratio_text(number_at(figures, "p50_us"), number_at(direct, "p50_us")) : ""});
    }
  }
  return table(rows, {0, 2, 3, 4, 5, 6, 7});
}

// The change of one stage since the window before, of the size at `index` there.
std::string change_text(const Json& stage, const Json& before, size_t index) {
  const Json& sizes = list_at(before, "sizes");
  if (index >= sizes.size()) return "";
  for (const Json& old : list_at(sizes[index], "stages")) {
    if (text_at(old, "stage") != text_at(stage, "stage")) continue;
    const double moved = number_at(stage, "p50_us") - number_at(old, "p50_us");
    return (moved < 0 ? "−" : "+") + duration_text(std::abs(moved)) + " since before";
  }
  return "";
}

std::string stages_table(const Json& result, const Json& before) {
  std::vector<std::vector<std::string>> rows;
  size_t index = 0;
  for (const Json& size : list_at(result, "sizes")) {
    const std::string bytes = std::to_string(count_at(size, "bytes"));
    const uint64_t records = count_at(size, "records");
    for (const Json& stage : list_at(size, "stages")) {
      const std::string name = text_at(stage, "stage");
      rows.push_back({bytes, name, text_at(stage, "host"), duration_text(number_at(stage, "p50_us")),
                      name.starts_with("link_") ? change_text(stage, before, index) : ""});
    }
    if (records > 0) {
      // The median of the sums, not the sum of the medians.
      rows.push_back({bytes, "whole call", "", duration_text(number_at(size, "recorded_p50_us")),
                      "as recorded, " + std::to_string(records) + " calls"});
      const double outside = number_at(at(size, "mesh"), "p50_us") - number_at(size, "recorded_p50_us");
      rows.push_back(
          {bytes, "outside", "", duration_text(std::max(0.0, outside)), "meshctl's socket and its connection"});
    }
    ++index;
  }
  return table(rows, {0, 3});
}

}  // namespace

std::string probe_text(const Json& result, const Json& before, const Paint& paint) {
  std::string text = paint(Tone::kStrong, text_at(result, "from") + " → " + text_at(result, "target")) + "\n" +
                     paths_table(result) + "\nmedian of each stage\n" + stages_table(result, before);
  if (const Json& clock = at(result, "clock"); clock.is_object()) text += "clock: " + clock_text(clock) + "\n";
  for (const Json& size : list_at(result, "sizes")) {
    const Json& plot = at(size, "plot");
    text += "\n" + bytes_text(number_at(size, "bytes")) + "\n" + (plot.is_string() ? plot.get<std::string>() : "");
  }
  return text;
}

}  // namespace mesh::ctl
