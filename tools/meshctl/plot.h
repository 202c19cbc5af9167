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

// One line per range of latencies, four to an octave, with a bar per series: the share of its values there.
std::string spread_text(const std::vector<Series>& series);
// An SVG document: a histogram per series, over each other, on a logarithmic axis of latencies.
std::string spread_svg(const std::string& title, const std::vector<Series>& series);

}  // namespace mesh::ctl
