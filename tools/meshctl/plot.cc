#include "tools/meshctl/plot.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <map>

#include "tools/meshctl/text.h"

namespace mesh::ctl {
namespace {

constexpr int kStepsPerOctave = 4;
constexpr size_t kBarWidth = 28;

int step_of(uint64_t us) {
  return static_cast<int>(std::floor(std::log2(static_cast<double>(std::max<uint64_t>(us, 1))) * kStepsPerOctave));
}

double start_of(int step) { return std::exp2(static_cast<double>(step) / kStepsPerOctave); }

std::string fixed(double number) {
  std::array<char, 40> text{};
  std::snprintf(text.data(), text.size(), "%.1f", number);
  return text.data();
}

std::string escaped(const std::string& text) {
  std::string safe;
  for (const char c : text) safe += c == '<' ? "&lt;" : c == '>' ? "&gt;" : c == '&' ? "&amp;" : std::string(1, c);
  return safe;
}

}  // namespace

std::string spread_text(const std::vector<Series>& series) {
  std::vector<std::map<int, uint64_t>> counts(series.size());
  int first = INT32_MAX;
  int last = INT32_MIN;
  for (size_t i = 0; i < series.size(); ++i) {
    series[i].latency_us->for_each([&](size_t mark, uint64_t count) {
      const int step = step_of(telemetry::Histogram::value_of(mark));
      counts[i][step] += count;
      first = std::min(first, step);
      last = std::max(last, step);
    });
  }
  if (first > last) return "no round trips\n";
  std::vector<std::vector<std::string>> rows = {{"from"}};
  for (const Series& each : series) rows[0].push_back(each.name);
  for (int step = first; step <= last; ++step) {
    std::vector<std::string> row = {duration_text(start_of(step))};
    for (size_t i = 0; i < series.size(); ++i) {
      const double share = static_cast<double>(counts[i][step]) /
                           static_cast<double>(std::max<uint64_t>(1, series[i].latency_us->count()));
      row.push_back(left(bar(share, kBarWidth), kBarWidth));
    }
    rows.push_back(std::move(row));
  }
  return table(rows, {0});
}

std::string spread_svg(const std::string& title, const std::vector<Series>& series) {
  constexpr double kWidth = 720;
  constexpr double kHeight = 360;
  constexpr double kMargin = 56;
  constexpr std::array<const char*, 6> kColours = {"#0b6e4f", "#c1440e", "#2b4c9b", "#8a2c8a", "#7a6a00", "#444444"};
  double low = 1e12;
  double high = 1;
  for (const Series& each : series) {
    each.latency_us->for_each([&](size_t mark, uint64_t) {
      const double us = std::max<double>(1, static_cast<double>(telemetry::Histogram::value_of(mark)));
      low = std::min(low, us);
      high = std::max(high, us);
    });
  }
  if (low > high) low = 1, high = 10;
  low /= 1.1, high *= 1.1;
  const auto x = [&](double us) {
    return kMargin + (kWidth - 2 * kMargin) * std::log(std::max(us, low) / low) / std::log(high / low);
  };
  const auto y = [&](double share) { return kHeight - kMargin - (kHeight - 2 * kMargin) * share; };
  std::string svg =
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 720 360\" font-family=\"sans-serif\" "
      "font-size=\"12\">\n<rect width=\"720\" height=\"360\" fill=\"white\"/>\n<text x=\"56\" y=\"24\" "
      "font-size=\"15\">" +
      escaped(title) + "</text>\n";
  for (const double share : {0.0, 0.5, 0.9, 0.99, 1.0}) {
    if (share == 0.99) continue;  // too near to 1 to be read
    svg += "<line x1=\"56\" x2=\"664\" y1=\"" + fixed(y(share)) + "\" y2=\"" + fixed(y(share)) +
           "\" stroke=\"#ddd\"/><text x=\"50\" y=\"" + fixed(y(share) + 4) + "\" text-anchor=\"end\">" +
           std::to_string(static_cast<int>(100 * share)) + " %</text>\n";
  }
  for (double tick = std::pow(10, std::floor(std::log10(low))); tick <= high; tick *= 10) {
    for (const double part : {1.0, 2.0, 5.0}) {
      if (tick * part < low || tick * part > high) continue;
      svg += "<line y1=\"56\" y2=\"304\" x1=\"" + fixed(x(tick * part)) + "\" x2=\"" + fixed(x(tick * part)) +
             "\" stroke=\"#eee\"/><text y=\"322\" text-anchor=\"middle\" x=\"" + fixed(x(tick * part)) + "\">" +
             duration_text(tick * part) + "</text>\n";
    }
  }
  for (size_t i = 0; i < series.size(); ++i) {
    const char* colour = kColours[i % kColours.size()];
    const double total = static_cast<double>(std::max<uint64_t>(1, series[i].latency_us->count()));
    double seen = 0;
    std::string points;
    series[i].latency_us->for_each([&](size_t mark, uint64_t count) {
      const double at = x(static_cast<double>(telemetry::Histogram::value_of(mark)));
      points += fixed(at) + "," + fixed(y(seen / total)) + " ";
      seen += static_cast<double>(count);
      points += fixed(at) + "," + fixed(y(seen / total)) + " ";
    });
    svg += "<polyline fill=\"none\" stroke-width=\"2\" stroke=\"" + std::string(colour) + "\" points=\"" + points +
           "\"/>\n<text x=\"70\" y=\"" + fixed(74 + 16 * static_cast<double>(i)) + "\" fill=\"" + colour + "\">" +
           escaped(series[i].name) + "</text>\n";
  }
  return svg + "</svg>\n";
}

}  // namespace mesh::ctl
