#include "sidecar/arbiter/journal_form.h"

#include <limits>

#include "lease_journal.pb.h"

namespace mesh::arbiter {
namespace {

namespace form = mesh::lease::journal::v1;

void put(form::Id* into, const Id& id) {
  into->set_high(id.high);
  into->set_low(id.low);
}

Id id_of(const form::Id& from) { return {from.high(), from.low()}; }

void put_request(form::Record& into, const gpu::Request& request) {
  into.set_lease_kind(static_cast<uint32_t>(request.kind));
  into.set_priority(static_cast<uint32_t>(request.priority));
  into.set_revocability(static_cast<uint32_t>(request.revocability));
  into.set_min(request.min);
  into.set_want(request.want);
  into.set_peak(request.peak);
  into.set_hold_hint_ns(request.hold_hint.count());
  into.set_ttl_ns(request.ttl.count());
  into.set_request_load_ns(request.load_time.count());
  if (request.model) put(into.mutable_model(), request.model);
  into.set_gpus(request.gpus);
  into.set_gpu_count(request.gpu_count);
}

gpu::Request request_of(const form::Record& from) {
  gpu::Request request;
  request.kind = static_cast<gpu::LeaseKind>(from.lease_kind());
  request.priority = static_cast<Priority>(from.priority());
  request.revocability = static_cast<gpu::Revocability>(from.revocability());
  request.min = from.min();
  request.want = from.want();
  request.peak = from.peak();
  request.hold_hint = Duration(from.hold_hint_ns());
  request.ttl = Duration(from.ttl_ns());
  request.load_time = Duration(from.request_load_ns());
  request.model = id_of(from.model());
  request.gpus = from.gpus();
  request.gpu_count = static_cast<uint8_t>(from.gpu_count());
  return request;
}

bool is_known(const form::Record& record) {
  return record.kind() <= static_cast<uint32_t>(JournalEntry::Kind::kGone) &&
         record.lease_kind() <= static_cast<uint32_t>(gpu::LeaseKind::kShared) &&
         record.priority() <= static_cast<uint32_t>(Priority::kBatch) &&
         record.revocability() <= static_cast<uint32_t>(gpu::Revocability::kKill) &&
         record.gpu_count() <= gpu::bounds::gpus_max && record.gpu() < gpu::bounds::gpus_max;
}

}  // namespace

std::string encode(const JournalEntry& entry) {
  form::Record record;
  record.set_kind(static_cast<uint32_t>(entry.kind));
  record.set_epoch(entry.epoch);
  if (entry.id) put(record.mutable_id(), entry.id);
  record.set_process(entry.process);
  record.set_on(entry.on);
  record.set_units(entry.units);
  record.set_unseen(entry.unseen);
  record.set_is_lost(entry.is_lost);
  record.set_used_by(entry.used_by);
  if (entry.extents.total() > 0) {
    for (const uint32_t count : entry.extents.count) record.add_extents(count);
  }
  record.set_is_committed(entry.is_committed);
  record.set_is_handed(entry.is_handed);
  if (entry.segment) put(record.mutable_segment(), entry.segment);
  if (entry.key.content) put(record.mutable_content(), entry.key.content);
  if (entry.key.layout) put(record.mutable_layout(), entry.key.layout);
  record.set_gpu(entry.key.gpu);
  if (entry.writer) put(record.mutable_writer(), entry.writer);
  record.set_load_ns(entry.load_time.count());
  if (entry.kind == JournalEntry::Kind::kLease) put_request(record, entry.request);
  return record.SerializeAsString();
}

std::optional<JournalEntry> decode(ByteView bytes) {
  form::Record record;
  if (!record.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())) || !is_known(record)) return std::nullopt;
  JournalEntry entry;
  entry.kind = static_cast<JournalEntry::Kind>(record.kind());
  entry.epoch = record.epoch();
  entry.id = id_of(record.id());
  entry.process = record.process();
  entry.on = record.on();
  entry.units = record.units();
  entry.unseen = record.unseen();
  entry.is_lost = record.is_lost();
  entry.used_by = record.used_by();
  for (size_t i = 0; i < gpu::kExtentSizes && static_cast<int>(i) < record.extents_size(); ++i)
    entry.extents.count[i] = record.extents(static_cast<int>(i));
  entry.is_committed = record.is_committed();
  entry.is_handed = record.is_handed();
  entry.segment = id_of(record.segment());
  entry.key = {id_of(record.content()), id_of(record.layout()), record.gpu()};
  entry.writer = id_of(record.writer());
  entry.load_time = Duration(record.load_ns());
  if (entry.kind == JournalEntry::Kind::kLease) entry.request = request_of(record);
  return entry;
}

std::string encode_scope(ByteView boot, const std::vector<std::string>& gpus) {
  form::Scope scope;
  scope.set_boot(boot.data(), boot.size());
  for (const std::string& uuid : gpus) scope.add_gpus(uuid);
  return scope.SerializeAsString();
}

void JournalDigest::note(const JournalEntry& entry, std::string record) {
  if (entry.kind == JournalEntry::Kind::kEpoch) {
    epoch_ = std::move(record);
    return;
  }
  const bool is_lease =
      entry.kind == JournalEntry::Kind::kGone ? !entry.key.content : entry.kind == JournalEntry::Kind::kLease;
  const Key key{is_lease, entry.id};
  if (const auto before = live_.find(key); before != live_.end()) {
    bytes_ -= before->second.size();
    live_.erase(before);
  }
  if (entry.kind == JournalEntry::Kind::kGone) return;
  bytes_ += record.size();
  live_.emplace(key, std::move(record));
}

std::vector<std::string> JournalDigest::records() const {
  std::vector<std::string> records;
  if (!epoch_.empty()) records.push_back(epoch_);
  for (const auto& [key, record] : live_) records.push_back(record);
  return records;
}

}  // namespace mesh::arbiter
