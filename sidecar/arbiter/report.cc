#include "sidecar/arbiter/report.h"

#include <bit>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "common/gpu/size_class.h"
#include "sidecar/arbiter/residence.h"

namespace mesh::arbiter {
namespace {

using Json = nlohmann::ordered_json;

int64_t bytes(Units units) { return units * static_cast<int64_t>(gpu::kUnitBytes); }
int64_t ms(Duration duration) { return to_ms_up(duration); }
// The pid is the lower part of a process's name.
int64_t pid(ProcessId process) { return static_cast<int64_t>(process & 0x3FFFFF); }

std::string_view name_of(gpu::Pressure pressure) {
  constexpr std::string_view kNames[] = {"green", "amber", "red"};
  return kNames[static_cast<size_t>(pressure)];
}

std::string_view name_of(gpu::SegmentState state) {
  constexpr std::string_view kNames[] = {"loading", "abandoned", "sealed", "idle"};
  return kNames[static_cast<size_t>(state)];
}

Json gpus_of(GpuMask mask, const ReportView& view) {
  Json gpus = Json::array();
  for_each_gpu(mask, [&](GpuIndex gpu) {
    if (gpu < view.terms.gpus.size()) gpus.push_back(view.terms.gpus[gpu]);
  });
  return gpus;
}

Json gpus(const ReportView& view) {
  Json all = Json::array();
  for (GpuIndex gpu = 0; gpu < view.terms.gpus.size(); ++gpu) {
    const GpuState& state = view.terms.engine.gpus()[gpu];
    const gpu::Ledger& ledger = state.ledger;
    size_t chunks = 0;
    view.terms.chunks.for_each([&](const ChunkRecord& chunk) { chunks += chunk.gpu == gpu ? 1 : 0; });
    all.push_back({{"gpu", view.terms.gpus[gpu]},
                   {"total_bytes", bytes(ledger.card().total)},
                   {"driver_bytes", bytes(ledger.card().driver_reserved)},
                   {"emergency_bytes", bytes(ledger.card().emergency)},
                   {"leased_bytes", bytes(ledger.leased())},
                   {"foreign_bytes", bytes(ledger.foreign())},
                   {"context_bytes", bytes(ledger.contexts())},
                   {"grantable_bytes", bytes(ledger.grantable())},
                   {"drawn_bytes", bytes(ledger.drawn())},
                   {"free_chunk_bytes", bytes(state.pool.free().units())},
                   {"chunks", chunks},
                   {"pressure", name_of(ledger.pressure())},
                   {"heat", gpu::to_string(state.thermal.band())},
                   {"is_drained", state.is_drained},
                   {"is_sampled", state.is_sampled},
                   {"books_agree", ledger.holds()}});
  }
  return {{"gpus", all},
          {"epoch", view.terms.engine.epoch()},
          {"is_reconciled", view.terms.engine.is_reconciled(view.now)}};
}

Json leases(const ReportView& view) {
  Json all = Json::array();
  for (const auto& [id, entry] : view.terms.engine.entries()) {
    if (entry.is_waiting()) continue;
    const gpu::Lease& lease = entry.lease;
    const auto client = view.clients.find(lease.process);
    Json one = {{"lease", hex(id)},
                {"client", client == view.clients.end() ? "" : client->second},
                {"pid", pid(lease.process)},
                {"used_by_pid", pid(lease.used_by)},
                {"kind", gpu::to_string(lease.request.kind)},
                {"state", gpu::to_string(lease.state)},
                {"gpus", gpus_of(lease.on, view)},
                {"bytes", bytes(lease.units)},
                {"bytes_not_seen_free", bytes(entry.unseen)},
                {"priority", to_string(lease.request.priority)},
                {"revocability", gpu::to_string(lease.request.revocability)},
                {"in_use", lease.in_use},
                {"uses", lease.uses},
                {"held_ms", ms(view.now - lease.granted_at)},
                {"is_handed", entry.is_handed}};
    if (lease.request.model) one["model"] = hex(lease.request.model);
    if (entry.segment) one["segment"] = hex(entry.segment);
    if (entry.ladder) one["asked_for"] = hex(entry.beneficiary);
    all.push_back(std::move(one));
  }
  return {{"leases", all}};
}

Json queue(const ReportView& view) {
  Json all = Json::array();
  for (const auto& [id, entry] : view.terms.engine.entries()) {
    if (!entry.is_waiting()) continue;
    const gpu::Lease& lease = entry.lease;
    const gpu::Reservation* reservation = view.terms.engine.queue().reservation_of(id);
    const auto client = view.clients.find(lease.process);
    all.push_back({{"lease", hex(id)},
                   {"client", client == view.clients.end() ? "" : client->second},
                   {"pid", pid(lease.process)},
                   {"used_by_pid", pid(lease.used_by)},
                   {"kind", gpu::to_string(lease.request.kind)},
                   {"priority", to_string(lease.request.priority)},
                   {"least_bytes", bytes(lease.request.least())},
                   {"ask_bytes", bytes(lease.request.ask())},
                   {"waited_ms", ms(view.now - lease.asked_at)},
                   {"why", to_string(entry.why)},
                   {"reserved", gpus_of(reservation == nullptr ? 0 : reservation->on, view)}});
  }
  return {{"queue", all}};
}

Json segments(const ReportView& view) {
  Json all = Json::array();
  view.terms.engine.segments().for_each([&](const gpu::Segment& segment) {
    all.push_back({{"segment", hex(segment.id)},
                   {"model", hex(segment.key.content)},
                   {"layout", hex(segment.key.layout)},
                   {"gpu", view.terms.gpus[segment.key.gpu]},
                   {"state", name_of(segment.state)},
                   {"bytes", bytes(segment.units)},
                   {"users", segment.users.size()},
                   {"waiting", segment.waiting.size()},
                   {"uses", segment.uses},
                   {"load_ms", ms(segment.load_time)}});
  });
  return {{"segments", all}};
}

Json models(const ReportView& view) {
  constexpr std::string_view kPlaces[] = {"gone", "disk", "host", "gpu"};
  Json all = Json::array();
  for (const Residence& each : residences(view.terms.engine, view.now)) {
    const GpuState& state = view.terms.engine.gpus()[each.gpu];
    all.push_back({{"model", hex(each.model)},
                   {"gpu", view.terms.gpus[each.gpu]},
                   {"at", each.is_loading ? "loading" : kPlaces[static_cast<size_t>(each.at)]},
                   {"refs", each.refs},
                   {"bytes", bytes(each.units)},
                   {"load_ms", ms(each.load_time)},
                   {"usable_in_ms", ms(each.usable_in)},
                   {"age_ms", ms(each.age)},
                   {"pressure", name_of(state.ledger.pressure())},
                   {"heat", gpu::to_string(state.thermal.band())}});
  }
  return {{"models", all}};
}

Json decisions(const ReportView& view) {
  Json all = Json::array();
  for (const Decision& each : view.decisions.kept()) {
    all.push_back({{"what", each.what},
                   {"ago_ms", ms(view.now - each.at)},
                   {"lease", hex(each.id)},
                   {"pid", pid(each.process)},
                   {"reason", to_string(each.reason)},
                   {"gpu", each.gpu < view.terms.gpus.size() ? view.terms.gpus[each.gpu] : ""},
                   {"bytes", bytes(each.units)}});
  }
  return {{"decisions", all}};
}

Json counters(const ReportView& view) {
  const Counters& each = view.counters;
  Json rules = Json::object();
  for (const auto& [rule, count] : view.terms.broken_rules) rules[rule] = count;
  return {{"connections", each.connections},
          {"connections_refused", each.connections_refused},
          {"hung_up_on", each.hung_up_on},
          {"packets", each.packets},
          {"grants", each.grants},
          {"refusals", each.refusals},
          {"claims", each.claims},
          {"yields", each.yields},
          {"signals", each.signals},
          {"ended_processes", each.ended_processes},
          {"samples", each.samples},
          {"samples_failed", each.samples_failed},
          {"journal_records", each.journal_records},
          {"journal_rewrites", each.journal_rewrites},
          {"chunks_made", view.chunks_made},
          {"chunks_not_made", view.chunks_not_made},
          {"broken_rules", rules}};
}

}  // namespace

std::string hex(const Id& id) {
  char text[33];
  std::snprintf(text, sizeof(text), "%016llx%016llx", static_cast<unsigned long long>(id.high),
                static_cast<unsigned long long>(id.low));
  return text;
}

std::string report(std::string_view question, const ReportView& view) {
  Json answer;
  if (question == "gpus") {
    answer = gpus(view);
  } else if (question == "leases") {
    answer = leases(view);
  } else if (question == "queue") {
    answer = queue(view);
  } else if (question == "segments") {
    answer = segments(view);
  } else if (question == "models") {
    answer = models(view);
  } else if (question == "decisions") {
    answer = decisions(view);
  } else if (question == "counters") {
    answer = counters(view);
  } else {
    answer = {{"error",
               "ask for gpus, leases, queue, segments, models, decisions, counters or plan BYTES [PRIORITY]; order "
               "evict LEASE, "
               "drain GPU or undrain GPU"}};
  }
  // A client's name may be any bytes.
  return answer.dump(-1, ' ', false, Json::error_handler_t::replace) + '\n';
}

}  // namespace mesh::arbiter
