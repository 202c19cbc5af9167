// What an operator asked or ordered, as a line of JSON.
#include <nlohmann/json.hpp>

#include "sidecar/arbiter/report.h"

namespace mesh::arbiter {
namespace {

using Json = nlohmann::ordered_json;

int64_t bytes(Units units) { return units * static_cast<int64_t>(gpu::kUnitBytes); }

std::string line_of(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace) + '\n'; }

std::string_view name_of(Eviction eviction) {
  constexpr std::string_view kNames[] = {"unknown", "dropped", "asked", "under_way", "refused", "not_agreed", "in_use"};
  return kNames[static_cast<size_t>(eviction)];
}

// Whose memory is asked for.
Json asked_of(LeaseId id, const ReportView& view) {
  Json one = {{"lease", hex(id)}};
  const auto found = view.terms.engine.entries().find(id);
  view.terms.engine.segments().for_each([&](const gpu::Segment& segment) {
    if (segment.id == id)
      one.update({{"what", segment.users.empty() ? "idle weights" : "weights that are read"},
                  {"bytes", bytes(segment.units)}});
  });
  if (one.contains("what") || found == view.terms.engine.entries().end()) return one;
  const gpu::Lease& lease = found->second.lease;
  const auto client = view.clients.find(lease.process);
  one.update({{"what", "lease"},
              {"bytes", bytes(lease.yieldable())},
              {"client", client == view.clients.end() ? "" : client->second},
              {"pid", static_cast<int64_t>(lease.process & 0x3FFFFF)},
              {"priority", to_string(lease.request.priority)},
              {"revocability", gpu::to_string(lease.request.revocability)},
              {"in_use", lease.in_use}});
  return one;
}

}  // namespace

std::string report_plan(const std::vector<CardPlan>& plans, const gpu::Request& request, const ReportView& view) {
  Json cards = Json::array();
  for (const CardPlan& plan : plans) {
    Json asked = Json::array();
    for (const LeaseId id : plan.asked) asked.push_back(asked_of(id, view));
    const gpu::Ledger& ledger = view.terms.engine.gpus()[plan.gpu].ledger;
    cards.push_back({{"gpu", view.terms.gpus[plan.gpu]},
                     {"fits_now", plan.fits_now},
                     {"free_bytes", bytes(plan.free)},
                     {"largest_bytes", bytes(ledger.largest())},
                     {"why", to_string(plan.why)},
                     {"within_ms", plan.at == kNever ? Json() : Json(to_ms_up(plan.at - view.now))},
                     {"asked", asked}});
  }
  return line_of({{"bytes", bytes(request.least())}, {"priority", to_string(request.priority)}, {"cards", cards}});
}

std::string report_eviction(LeaseId id, Eviction eviction) {
  return line_of({{"lease", hex(id)}, {"outcome", name_of(eviction)}});
}

std::string report_drain(GpuIndex gpu, const ReportView& view) {
  const GpuState& state = view.terms.engine.gpus()[gpu];
  return line_of({{"gpu", view.terms.gpus[gpu]},
                  {"is_drained", state.is_drained},
                  {"leased_bytes", bytes(state.ledger.leased())}});
}

std::string report_wrong(std::string_view what) { return line_of({{"error", what}}); }

}  // namespace mesh::arbiter
