// What is found at the start, and what is measured afterwards.
#include <algorithm>
#include <set>

#include "sidecar/arbiter/driver.h"

namespace mesh::arbiter {

Result<void> Driver::start() {
  if (auto recovered = recover(); !recovered) return recovered;
  auto admin = DriverAdmin::open(loop_, parts_.admin_path, [this](std::string_view line) { return answer(line); });
  if (!admin) return Unexpected(std::move(admin.error()));
  admin_ = std::move(*admin);
  auto listener = io::PacketListener::open(loop_, parts_.lease_path, 0660, *this);
  if (!listener) return Unexpected(std::move(listener.error()));
  listener_ = std::move(*listener);
  return {};
}

Result<void> Driver::recover() {
  if (!memory_.recover()) return fail(Code::kInternal, "keeper", "the keeper of descriptors does not answer");
  std::vector<JournalEntry> entries;
  const std::vector<std::string>& records = parts_.journal_records;
  const bool is_ours = !records.empty() && records.front() == parts_.scope;
  for (size_t i = 1; is_ours && i < records.size(); ++i) {
    const auto entry = decode(as_bytes(records[i]));
    if (!entry) continue;
    entries.push_back(*entry);
    digest_.note(*entry, records[i]);
  }
  std::vector<std::string> live = digest_.records();
  live.insert(live.begin(), parts_.scope);
  if (auto written = parts_.journal.rewrite(live); !written) return written;
  Actions out;
  engine_.begin(entries, loop_.now(), out);
  carry_out(out);
  memory_.drop_unowned(engine_);
  // The arbiter before may have been killed between writing down that one is complete and sealing it.
  engine_.segments().for_each([this](const gpu::Segment& segment) {
    if (segment.state == gpu::SegmentState::kSealed || segment.state == gpu::SegmentState::kIdle)
      memory_.seal(segment.id);
  });
  if (!engine_.entries().empty()) {
    parts_.log("recovered", "",
               std::to_string(engine_.entries().size()) + " leases and " + std::to_string(memory_.book().size()) +
                   " chunks of the arbiter before");
  }
  return {};
}

// Of what a process holds of our chunks nothing is its own. NVML counts them for an importer, as their maker has let go
// of them; where it counts them for another importer of the same, this one's own use is taken for a stranger's, and
// less is granted.
Units Driver::handed_to(ProcessId process, GpuIndex gpu) const {
  Units units = 0;
  std::set<LeaseId> segments;
  for (const auto& [id, entry] : engine_.entries()) {
    const gpu::Lease& lease = entry.lease;
    if (lease.process != process || (lease.on & gpu::mask_of(gpu)) == 0 || !entry.is_handed) continue;
    if (lease.request.kind == gpu::LeaseKind::kBacked) units += lease.units;
    if (entry.segment) segments.insert(entry.segment);
  }
  engine_.segments().for_each([&](const gpu::Segment& segment) {
    if (segments.contains(segment.id)) units += segment.units;
  });
  return units;
}

// What goes from hand to hand during a measurement was measured in either.
void Driver::on_measuring() {
  handed_before_.clear();
  closed_before_.clear();
  for (GpuIndex gpu = 0; gpu < parts_.uuids.size(); ++gpu) {
    closed_before_.push_back(memory_.closed(gpu));
    for (const auto& [process, watched] : processes_) handed_before_[{process, gpu}] = handed_to(process, gpu);
  }
}

Units Driver::handed_to_meanwhile(ProcessId process, GpuIndex gpu) const {
  const auto before = handed_before_.find({process, gpu});
  const Units now = handed_to(process, gpu);
  return before == handed_before_.end() ? now : std::max(before->second, now);
}

void Driver::on_reading(const SensorReading& reading) {
  if (!reading.device) {
    ++counters_.samples_failed;
    return parts_.log("sample_failed", parts_.uuids[reading.gpu], reading.trouble);
  }
  ++counters_.samples;
  const Units closing = memory_.closing(reading.gpu) - closed_before_[reading.gpu];
  const Units measured = gpu::units_of(reading.device->used_bytes);
  GpuSampled sampled{.gpu = reading.gpu, .used = std::max<Units>(measured - closing, 0)};
  for (const auto& [process, watched] : processes_) {
    uint64_t bytes = 0;
    for (const io::ProcessUse& use : reading.processes) bytes += use.pid == io::pid_of(process) ? use.bytes : 0;
    const Units used = std::max<Units>(gpu::units_of(bytes) - handed_to_meanwhile(process, reading.gpu), 0);
    sampled.processes.push_back({process, used});
  }
  if (const auto& thermal = reading.device->thermal) {
    sampled.has_heat = true;
    sampled.celsius = thermal->temperature_c;
    sampled.is_slowed = thermal->is_slowed_by_heat;
  }
  tell(sampled);
  const auto& gpus = engine_.gpus();
  sensors_.set_pressed(std::any_of(
      gpus.begin(), gpus.end(), [](const GpuState& each) { return each.ledger.pressure() != gpu::Pressure::kGreen; }));
}

}  // namespace mesh::arbiter
