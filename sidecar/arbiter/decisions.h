// The last things the arbiter decided, for whoever asks why.
#pragma once

#include <cstdint>
#include <deque>
#include <string_view>

#include "common/base/instant.h"
#include "sidecar/arbiter/events.h"

namespace mesh::arbiter {

struct Decision {
  std::string_view what;  // "granted", "refused", "waits", "asked to yield", … ; static storage
  Instant at{};
  LeaseId id{};
  ProcessId process = 0;
  Reason reason = Reason::kNone;
  GpuIndex gpu = 0;
  Units units = 0;
};

class Decisions {
 public:
  static constexpr size_t kKept = 256;

  void note(const Decision& decision) {
    if (kept_.size() == kKept) kept_.pop_front();
    kept_.push_back(decision);
  }
  // The oldest first.
  const std::deque<Decision>& kept() const { return kept_; }

 private:
  std::deque<Decision> kept_;
};

struct Counters {
  uint64_t connections = 0;
  uint64_t connections_refused = 0;  // of whom it is not known who he is, or one too many
  uint64_t hung_up_on = 0;           // who said nothing, broke too many rules or did not read
  uint64_t packets = 0;
  uint64_t grants = 0;
  uint64_t refusals = 0;
  uint64_t claims = 0;
  uint64_t yields = 0;
  uint64_t signals = 0;
  uint64_t ended_processes = 0;
  uint64_t samples = 0;
  uint64_t samples_failed = 0;
  uint64_t journal_records = 0;
  uint64_t journal_rewrites = 0;
};

}  // namespace mesh::arbiter
