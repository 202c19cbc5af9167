// Live figures per service, from the differences between two looks at all sidecars.
#pragma once

#include <map>
#include <string>

#include "common/telemetry/histogram.h"
#include "tools/meshctl/fields.h"
#include "tools/meshctl/text.h"

namespace mesh::ctl {

// What one sidecar had counted at one time.
struct Sample {
  struct Service {
    telemetry::Histogram latency_us;
    uint64_t errors = 0;
    uint64_t in_flight = 0;
  };
  std::map<std::string, Service> services;
  uint64_t uptime_ms = 0;
  uint64_t batches_sent = 0;
  uint64_t envelopes_sent = 0;
  uint64_t refused = 0;  // hostile or broken connections, by all rules
};
// By sidecar, as each counts for itself and may be restarted.
using Samples = std::map<std::string, Sample>;

// Reads the answer to "stats"; marks that no histogram has are left out.
Sample sample_of(const Json& stats);

// What happened between two looks, over all sidecars:
// {"interval_s","mean_batch","refused_per_s","services":[{"service","rate",
// "errors_per_s","p50_us","p99_us","in_flight"}]}, busiest first.
Json rates(const Samples& before, const Samples& after, double interval_s);
std::string rates_text(const Json& rates, const Paint& paint);

}  // namespace mesh::ctl
