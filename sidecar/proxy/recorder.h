// Writes down what became of each call of the agents beside this sidecar, and where its time went.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/telemetry/clock_offset.h"
#include "common/telemetry/decision_log.h"
#include "common/telemetry/histogram.h"
#include "sidecar/proxy/events.h"

namespace mesh::proxy {

// A call that ended, for the time of one call of Recorder::record().
struct Ended {
  const telemetry::Trace& trace;
  const ReturnPath& path;
  uint32_t service = telemetry::Decision::kNoService;
  std::string_view method;
  Priority priority = Priority::kNormal;
  wire::Lane lane = wire::Lane::kInteractive;
  uint64_t request_bytes = 0;
  Outcome& outcome;                          // an error is given the call's name
  std::optional<PeerIndex> peer;             // where it was last; nothing for an agent of this sidecar
  const wire::CalleeSpans* spans = nullptr;  // as the callee says
  uint32_t decompress_us = 0;                // of the reply
  const wire::BatchShape* batch = nullptr;   // that the reply came with
  bool is_fetch = false;                     // nobody's call: not in the tally of calls
};

class Recorder {
 public:
  struct Tally {
    std::array<uint64_t, kCodeCount> results{};
    telemetry::Histogram latency_us;
  };

  Recorder(std::string hop, size_t peers, size_t services) : hop_(std::move(hop)), clocks_(peers), tallies_(services) {}

  // The number of a request that came now; counts from 1.
  uint64_t next_number() { return ++last_number_; }
  void record(const Ended& ended, Instant now);
  // The process behind the peer's address may be another one now.
  void forget_clock(PeerIndex peer) { clocks_[peer].forget(); }

  const telemetry::DecisionLog& log() const { return log_; }
  const Tally& tally(uint32_t service) const { return tallies_[service]; }
  const std::string& hop() const { return hop_; }

 private:
  void name_failure(telemetry::Decision& decision, Error& error) const;

  std::string hop_;
  uint64_t last_number_ = 0;
  telemetry::DecisionLog log_;
  std::vector<telemetry::ClockOffset> clocks_;
  std::vector<Tally> tallies_;
};

}  // namespace mesh::proxy
