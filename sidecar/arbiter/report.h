// What the admin socket answers: a word in, one line of JSON out.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "sidecar/arbiter/chunk_book.h"
#include "sidecar/arbiter/decisions.h"
#include "sidecar/arbiter/session.h"

namespace mesh::arbiter {

struct ReportView {
  const SessionTerms& terms;
  const Decisions& decisions;
  const Counters& counters;
  std::map<ProcessId, std::string> clients{};  // what those with a connection call themselves
  uint64_t chunks_made = 0;
  uint64_t chunks_not_made = 0;
  Instant now{};
};

// "gpus", "leases", "queue", "segments", "models", "decisions" or "counters"; of anything else an error that names these.
std::string report(std::string_view question, const ReportView& view);

}  // namespace mesh::arbiter
