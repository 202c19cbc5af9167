#include "sidecar/arbiter/session_replies.h"

#include <algorithm>
#include <bit>

namespace mesh::arbiter {
namespace {

namespace pb = mesh::lease::v1;

Frame frame_of(const pb::Reply& reply) { return {reply.SerializeAsString(), {}}; }

void put(pb::Lease* into, LeaseId id, uint64_t epoch) {
  into->set_id(write_id(id));
  if (epoch != 0) into->set_epoch(epoch);
}

uint64_t clamped_bytes(Units units) { return gpu::to_bytes(std::max<Units>(units, 0)); }

// Everything but the chunks.
pb::Reply grant_of(uint64_t number, const SendGrant& grant, const SessionTerms& terms) {
  pb::Reply reply;
  reply.set_number(number);
  pb::Granted& granted = *reply.mutable_granted();
  put(granted.mutable_lease(), grant.id, grant.epoch);
  granted.set_kind(static_cast<pb::Kind>(grant.kind));
  for_each_gpu(grant.on, [&](GpuIndex gpu) { granted.add_gpus(terms.gpus[gpu]); });
  granted.set_bytes(gpu::to_bytes(grant.units));
  granted.set_is_writer(grant.is_writer);
  return reply;
}

uint64_t epoch_of(LeaseId id, const SessionTerms& terms) {
  const auto found = terms.engine.entries().find(id);
  return found == terms.engine.entries().end() ? 0 : found->second.lease.epoch;
}

}  // namespace

std::optional<Id> read_id(std::string_view bytes) {
  if (bytes.empty()) return Id{};
  if (bytes.size() != 16) return std::nullopt;
  Id id;
  for (size_t i = 0; i < 8; ++i) {
    id.high = id.high << 8 | static_cast<uint8_t>(bytes[i]);
    id.low = id.low << 8 | static_cast<uint8_t>(bytes[8 + i]);
  }
  return id;
}

std::string write_id(const Id& id) {
  std::string bytes(16, '\0');
  for (size_t i = 0; i < 8; ++i) {
    bytes[i] = static_cast<char>(id.high >> (56 - 8 * i));
    bytes[8 + i] = static_cast<char>(id.low >> (56 - 8 * i));
  }
  return bytes;
}

Frame welcome(uint64_t number, const SessionTerms& terms) {
  pb::Reply reply;
  reply.set_number(number);
  pb::Welcome& welcome = *reply.mutable_welcome();
  welcome.set_version(kProtocolVersion);
  welcome.set_epoch(terms.engine.epoch());
  welcome.set_backs_leases(terms.backs_leases);
  for (GpuIndex gpu = 0; gpu < terms.gpus.size(); ++gpu) {
    const gpu::Ledger& ledger = terms.engine.gpus()[gpu].ledger;
    pb::Gpu& told = *welcome.add_gpus();
    told.set_uuid(terms.gpus[gpu]);
    told.set_total_bytes(clamped_bytes(ledger.card().total));
    told.set_largest_bytes(clamped_bytes(ledger.largest()));
  }
  return frame_of(reply);
}

Frame queued(uint64_t number, LeaseId lease, const SessionTerms& terms) {
  pb::Reply reply;
  reply.set_number(number);
  put(reply.mutable_queued()->mutable_lease(), lease, terms.engine.epoch());
  const auto found = terms.engine.entries().find(lease);
  if (found != terms.engine.entries().end()) reply.mutable_queued()->set_why(std::string(to_string(found->second.why)));
  return frame_of(reply);
}

void granted(uint64_t number, bool is_claimed, const SendGrant& grant, const SessionTerms& terms, Frames& out) {
  pb::Reply head = grant_of(number, grant, terms);
  const bool has_chunks = grant.kind != gpu::LeaseKind::kAccounted && !is_claimed;
  head.mutable_granted()->set_is_claimed(is_claimed);
  const std::vector<ChunkNumber> chunks =
      has_chunks ? terms.chunks.of(grant.segment ? grant.segment : grant.id) : std::vector<ChunkNumber>();
  size_t told = 0;
  do {
    pb::Reply reply = head;
    Frame frame;
    const size_t end = std::min(chunks.size(), told + packet_descriptors_max);
    for (; told < end; ++told) {
      const ChunkRecord& chunk = *terms.chunks.find(chunks[told]);
      pb::Chunk& listed = *reply.mutable_granted()->add_chunks();
      listed.set_number(chunk.number);
      listed.set_bytes(gpu::to_bytes(chunk.units()));
      listed.set_gpu(static_cast<uint32_t>(std::popcount(grant.on & (gpu::mask_of(chunk.gpu) - 1))));
      frame.chunks.push_back(chunk.number);
    }
    reply.mutable_granted()->set_more(told < chunks.size());
    frame.bytes = reply.SerializeAsString();
    out.push_back(std::move(frame));
  } while (told < chunks.size());
}

Frame refused(uint64_t number, const SendRefusal& refusal) {
  pb::Reply reply;
  reply.set_number(number);
  pb::Refused& refused = *reply.mutable_refused();
  put(refused.mutable_lease(), refusal.id, 0);
  refused.set_code(static_cast<uint32_t>(refusal.code));
  refused.set_reason(std::string(to_string(refusal.reason)));
  refused.set_largest_bytes(clamped_bytes(refusal.largest));
  return frame_of(reply);
}

Frame done(uint64_t number) {
  pb::Reply reply;
  reply.set_number(number);
  reply.mutable_done();
  return frame_of(reply);
}

Frame failed(uint64_t number, LeaseId lease, const Error& error) {
  pb::Reply reply;
  reply.set_number(number);
  pb::Failed& failed = *reply.mutable_failed();
  if (lease) put(failed.mutable_lease(), lease, 0);
  failed.set_code(static_cast<uint32_t>(error.code));
  failed.set_rule(error.rule);
  failed.set_text(error.text);
  return frame_of(reply);
}

Frame yield_asked(const AskYield& asked, const SessionTerms& terms) {
  pb::Reply reply;
  pb::YieldAsked& yield = *reply.mutable_yield_asked();
  put(yield.mutable_lease(), asked.id, epoch_of(asked.id, terms));
  yield.set_how(static_cast<pb::How>(asked.how));
  yield.set_bytes(clamped_bytes(asked.units));
  yield.set_within_ms(static_cast<uint32_t>(std::max<int64_t>(to_ms_up(asked.within), 0)));
  return frame_of(reply);
}

Frame standing(uint64_t number, const std::vector<std::pair<std::string, Outlook>>& outlooks,
               const SessionTerms& terms) {
  pb::Reply reply;
  reply.set_number(number);
  pb::Standing& standing = *reply.mutable_standing();
  standing.set_epoch(terms.engine.epoch());
  standing.set_is_reconciled(terms.engine.is_reconciled(terms.engine.settled_at()));
  standing.set_waiting(static_cast<uint32_t>(terms.engine.queue().size()));
  for (GpuIndex gpu = 0; gpu < terms.gpus.size(); ++gpu) {
    const gpu::Ledger& ledger = terms.engine.gpus()[gpu].ledger;
    pb::GpuStanding& told = *standing.add_gpus();
    told.set_uuid(terms.gpus[gpu]);
    told.set_grantable_bytes(clamped_bytes(ledger.grantable()));
    told.set_leased_bytes(clamped_bytes(ledger.leased()));
    told.set_foreign_bytes(clamped_bytes(ledger.foreign()));
  }
  for (const auto& [model, outlook] : outlooks) {
    pb::Outlook& told = *standing.add_outlooks();
    told.set_model(model);
    told.set_place(static_cast<pb::Outlook::Place>(outlook.place));
    told.set_never_fits(outlook.never_fits);
    told.set_usable_in_ms(outlook.usable_in == Outlook::kForever
                              ? UINT32_MAX
                              : static_cast<uint32_t>(std::min<int64_t>(to_ms_up(outlook.usable_in), UINT32_MAX - 1)));
    told.set_pressure(static_cast<uint32_t>(outlook.pressure));
    told.set_band(static_cast<uint32_t>(outlook.band));
  }
  return frame_of(reply);
}

}  // namespace mesh::arbiter
