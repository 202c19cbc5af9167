// How latencies are spread, as text and as a picture.
#pragma once

#include <string>
#include <vector>

#include "common/telemetry/histogram.h"

namespace mesh::ctl {

struct Series {
  std::string name;
  const telemetry::Histogram* latency_us;  // must outlive the call
};

// One line per range of latencies, each twice the one before in four steps, with a bar per series.
std::string spread_text(const std::vector<Series>& series);
// An SVG document: the share of round trips (0 to 100 %) over their latency on a logarithmic axis, a curve per series.
std::string spread_svg(const std::string& title, const std::vector<Series>& series);

}  // namespace mesh::ctl
