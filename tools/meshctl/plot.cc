#include "tools/meshctl/plot.h"

#include <algorithm>
#include <array>
#include <climits>
#include <cmath>
#include <map>
#include <utility>

#include "tools/meshctl/fields.h"
#include "tools/meshctl/text.h"

namespace mesh::ctl {
namespace {

constexpr int kStepsPerOctave = 4;
constexpr int kPictureStepsPerOctave = 12;
constexpr size_t kBarWidth = 28;
constexpr double kLeft = 56;
constexpr double kRight = 696;
constexpr double kTop = 40;
constexpr double kBottom = 304;
constexpr std::array<const char*, 6> kColours = {"#0b6e4f", "#c1440e", "#2b4c9b", "#8a2c8a", "#7a6a00", "#444444"};

// The share of all values per step; steps are equal on a logarithmic axis.
using Bins = std::map<int, double>;

Bins bins_of(const telemetry::Histogram& latency_us, int steps_per_octave) {
  Bins bins;
  latency_us.for_each([&](size_t mark, uint64_t count) {
    const auto us = static_cast<double>(std::max<uint64_t>(1, telemetry::Histogram::value_of(mark)));
    const int step = static_cast<int>(std::floor(std::log2(us) * steps_per_octave));
    bins[step] += static_cast<double>(count) / static_cast<double>(latency_us.count());
  });
  return bins;
}

double start_of(int step) { return std::exp2(static_cast<double>(step) / kStepsPerOctave); }

std::string fixed(double number) { return number_text(number, 1); }

std::string escaped(const std::string& text) {
  std::string safe;
  for (const char c : printable(text)) {
    safe += c == '<' ? "&lt;" : c == '>' ? "&gt;" : c == '&' ? "&amp;" : std::string(1, c);
  }
  return safe;
}

std::string text_element(double x, double y, const std::string& attributes, const std::string& text) {
  return "<text x=\"" + fixed(x) + "\" y=\"" + fixed(y) + "\" " + attributes + ">" + escaped(text) + "</text>\n";
}

std::string line_element(double x1, double y1, double x2, double y2) {
  return "<line x1=\"" + fixed(x1) + "\" y1=\"" + fixed(y1) + "\" x2=\"" + fixed(x2) + "\" y2=\"" + fixed(y2) +
         "\" stroke=\"#ddd\"/>\n";
}

// Round latencies between two steps: 1, 2, 5, 10, … µs, fewer where they would stand too close.
std::vector<double> ticks(int first, int last) {
  constexpr int kRoomOctaves = 6;
  const bool has_room = last - first <= kRoomOctaves * kPictureStepsPerOctave;
  std::vector<double> all;
  for (double decade = 1; decade < 1e12; decade *= 10) {
    for (const double part : {1.0, 2.0, 5.0}) {
      const double step = std::log2(decade * part) * kPictureStepsPerOctave;
      if (step >= first && step <= last && (has_room || part < 2)) all.push_back(decade * part);
    }
  }
  return all;
}

}  // namespace

std::string spread_text(const std::vector<Series>& series) {
  std::vector<Bins> bins;
  int first = INT_MAX;
  int last = INT_MIN;
  for (const Series& each : series) {
    bins.push_back(bins_of(*each.latency_us, kStepsPerOctave));
    if (bins.back().empty()) continue;
    first = std::min(first, bins.back().begin()->first);
    last = std::max(last, bins.back().rbegin()->first);
  }
  if (first > last) return "no round trips\n";
  std::vector<std::vector<std::string>> rows = {{"from"}};
  for (const Series& each : series) rows[0].push_back(each.name);
  bool in_gap = false;
  for (int step = first; step <= last; ++step) {
    // One outlier must not push the rest off the screen.
    const bool is_empty = std::none_of(bins.begin(), bins.end(), [&](const Bins& each) { return each.contains(step); });
    if (is_empty && !std::exchange(in_gap, true)) rows.push_back({"⋮"});
    if (is_empty) continue;
    in_gap = false;
    std::vector<std::string> row = {duration_text(start_of(step))};
    for (Bins& each : bins) row.push_back(left(bar(each[step], kBarWidth), kBarWidth));
    rows.push_back(std::move(row));
  }
  return table(rows, {0});
}

std::string spread_svg(const std::string& title, const std::vector<Series>& series) {
  std::vector<Bins> bins;
  int first = INT_MAX;
  int last = INT_MIN;
  double highest = 0;
  for (const Series& each : series) {
    bins.push_back(bins_of(*each.latency_us, kPictureStepsPerOctave));
    for (const auto& [step, share] : bins.back()) {
      first = std::min(first, step);
      last = std::max(last, step);
      highest = std::max(highest, share);
    }
  }
  if (first > last) first = 0, last = kPictureStepsPerOctave, highest = 1;
  --first, last += 2;  // so that no bar touches the frame
  const auto x = [&](double step) { return kLeft + (kRight - kLeft) * (step - first) / (last - first); };
  const auto y = [&](double share) { return kBottom - (kBottom - kTop) * share / highest; };

  std::string svg =
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 720 360\" font-family=\"sans-serif\" "
      "font-size=\"12\">\n<rect width=\"720\" height=\"360\" fill=\"white\"/>\n" +
      text_element(kLeft, 24, "font-size=\"15\"", title);
  for (int quarter = 0; quarter <= 4; ++quarter) {
    const double share = highest * quarter / 4;
    svg += line_element(kLeft, y(share), kRight, y(share));
    svg += text_element(kLeft - 6, y(share) + 4, "text-anchor=\"end\"", fixed(100 * share) + " %");
  }
  for (const double us : ticks(first, last)) {
    const double at = x(std::log2(us) * kPictureStepsPerOctave);
    svg += line_element(at, kTop, at, kBottom);
    svg += text_element(at, kBottom + 18, "text-anchor=\"middle\"", duration_text(us));
  }
  svg += text_element((kLeft + kRight) / 2, kBottom + 40, "text-anchor=\"middle\"",
                      "round trip, logarithmic; share of the round trips per twelfth of an octave");
  for (size_t i = 0; i < series.size(); ++i) {
    const std::string colour = kColours[i % kColours.size()];
    std::string points;
    for (const auto& [step, share] : bins[i]) {
      points += "M" + fixed(x(step)) + "," + fixed(y(0)) + "V" + fixed(y(share)) + "H" + fixed(x(step + 1)) + "V" +
                fixed(y(0)) + "Z";
    }
    svg += "<path fill=\"" + colour + "\" fill-opacity=\"0.35\" stroke=\"" + colour + "\" d=\"" + points + "\"/>\n";
    const std::string median = "p50 " + duration_text(static_cast<double>(series[i].latency_us->quantile(0.5)));
    svg += text_element(kRight - 4, kTop + 14 + 16 * static_cast<double>(i),
                        "text-anchor=\"end\" fill=\"" + colour + "\"", series[i].name + ", " + median);
  }
  return svg + "</svg>\n";
}

}  // namespace mesh::ctl
