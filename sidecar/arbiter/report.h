// What the admin socket answers: a word in, one line of JSON out.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

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

// A lease's id as people see it: 32 hexadecimal digits.
std::string hex(const Id& id);

// report_operator.cc: the answers to what an operator asked or ordered.
std::string report_plan(const std::vector<CardPlan>& plans, const gpu::Request& request, const ReportView& view);
std::string report_eviction(LeaseId id, Eviction eviction);
// After it was carried out.
std::string report_drain(GpuIndex gpu, const ReportView& view);
std::string report_wrong(std::string_view what);

// "gpus", "leases", "queue", "segments", "models", "decisions" or "counters"; of anything else an error that names
// these.
std::string report(std::string_view question, const ReportView& view);

}  // namespace mesh::arbiter
