#include "sidecar/proxy/arbiter_link.h"

#include <algorithm>
#include <utility>

#include "common/base/model_key.h"
#include "lease.pb.h"

namespace mesh::proxy {
namespace {

namespace pb = mesh::lease::v1;

constexpr uint32_t kProtocolVersion = 1;
// Calls are under way that nobody can stop: it takes as long as they do.
constexpr uint32_t kYieldEta_ms = 10'000;

pb::Urgency urgency_of(Priority priority) {
  switch (priority) {
    case Priority::kCritical:
      return pb::URGENCY_CRITICAL;
    case Priority::kInteractive:
      return pb::URGENCY_INTERACTIVE;
    case Priority::kNormal:
      return pb::URGENCY_NORMAL;
    case Priority::kBatch:
      return pb::URGENCY_BATCH;
  }
  return pb::URGENCY_NORMAL;
}

// As much of a name as an arbiter takes, in whole letters.
std::string_view start_of(std::string_view name) {
  constexpr size_t kClientBytes_max = 64;
  if (name.size() <= kClientBytes_max) return name;
  size_t end = kClientBytes_max;
  while (end > 0 && (static_cast<uint8_t>(name[end]) & 0xC0) == 0x80) --end;
  return name.substr(0, end);
}

uint32_t milliseconds_of(int64_t span_ms) { return static_cast<uint32_t>(std::clamp<int64_t>(span_ms, 0, UINT32_MAX)); }

}  // namespace

uint64_t* ArbiterLink::current(uint32_t number) {
  const auto at = current_.find(number);
  return at == current_.end() ? nullptr : &at->second;
}

uint32_t ArbiterLink::number_of(uint64_t lease) const {
  const auto at =
      std::find_if(current_.begin(), current_.end(), [&](const auto& entry) { return entry.second == lease; });
  return at->first;
}

void ArbiterLink::ask(uint32_t number, ModelOrder order) {
  const uint64_t lease = next_lease_++;
  leases_[lease].order = std::move(order);
  current_[number] = lease;
  send_ask(lease);
}

void ArbiterLink::note_use(uint32_t number, bool is_used) {
  const uint64_t* lease = current(number);
  if (lease == nullptr) return;
  leases_[*lease].is_used = is_used;
  if (leases_[*lease].is_granted) send_use(*lease);
}

void ArbiterLink::note_loaded(uint32_t number) {
  const uint64_t* lease = current(number);
  if (lease == nullptr) return;
  leases_[*lease].is_loaded = true;
  if (leases_[*lease].is_granted) send_commit(*lease);
}

void ArbiterLink::give_back(uint32_t number) {
  const uint64_t* found = current(number);
  if (found == nullptr) return;
  const uint64_t lease = *found;
  current_.erase(number);
  Held& held = leases_[lease];
  held.is_wanted = false;
  // It is named in the answer to what was asked; if that was never sent nobody knows of it.
  if (held.id.empty() && is_welcome_) return;
  if (!held.id.empty()) return send_release(lease);
  leases_.erase(lease);
}

// --- what is sent ---

void ArbiterLink::send(pb::Request& request, Asked what, uint64_t lease, std::vector<uint32_t> looked_for) {
  request.set_number(next_request_++);
  pending_[request.number()] = {what, lease, std::move(looked_for)};
  channel_.send(request.SerializeAsString());
}

void ArbiterLink::name(pb::Lease& name, const Held& held) const {
  name.set_id(held.id);
  name.set_epoch(held.epoch);
}

void ArbiterLink::send_ask(uint64_t lease) {
  if (!is_welcome_) return;
  const ModelOrder& order = leases_[lease].order;
  pb::Request request;
  pb::Ask& ask = *request.mutable_ask();
  ask.set_kind(pb::KIND_ACCOUNTED);
  ask.set_urgency(urgency_of(order.priority));
  ask.set_revocability(pb::REVOCABILITY_RELEASE);
  ask.set_min_bytes(order.bytes);
  ask.set_want_bytes(order.bytes);
  ask.set_hold_hint_ms(milliseconds_of(order.hold_ms));
  ask.set_load_ms(milliseconds_of(order.load_ms));
  ask.set_model(model_key(order.model));
  ask.set_pid(order.pid);
  send(request, Asked::kLease, lease);
}

void ArbiterLink::send_release(uint64_t lease) {
  Held& held = leases_[lease];
  // Without an arbiter it is said after the next hello.
  if (!is_welcome_ || std::exchange(held.is_released, true)) return;
  pb::Request request;
  name(*request.mutable_release(), held);
  send(request, Asked::kRelease, lease);
}

void ArbiterLink::send_use(uint64_t lease) {
  if (!is_welcome_) return;
  const Held& held = leases_[lease];
  pb::Request request;
  name(*request.mutable_use()->mutable_lease(), held);
  request.mutable_use()->set_in_use(held.is_used);
  send(request, Asked::kOther, lease);
}

void ArbiterLink::send_commit(uint64_t lease) {
  if (!is_welcome_) return;
  const Held& held = leases_[lease];
  pb::Request request;
  name(*request.mutable_commit()->mutable_lease(), held);
  request.mutable_commit()->set_bytes(held.order.bytes);
  send(request, Asked::kOther, lease);
}

void ArbiterLink::send_claim(uint64_t lease) {
  const Held& held = leases_[lease];
  pb::Request request;
  name(*request.mutable_claim()->mutable_lease(), held);
  request.mutable_claim()->set_bytes(held.order.bytes);
  send(request, Asked::kClaim, lease);
}

void ArbiterLink::look(const std::vector<std::pair<uint32_t, ModelOrder>>& models) {
  constexpr size_t kQueries_max = 32;
  const auto is_look = [](const auto& each) { return each.second.what == Asked::kStatus; };
  if (!is_welcome_ || std::any_of(pending_.begin(), pending_.end(), is_look)) return;
  for (size_t next = 0; next < models.size();) {
    pb::Request request;
    std::vector<uint32_t> looked_for;
    for (; next < models.size() && looked_for.size() < kQueries_max; ++next) {
      const auto& [number, order] = models[next];
      looked_for.push_back(number);
      pb::Query& query = *request.mutable_status()->add_queries();
      query.set_model(model_key(order.model));
      query.set_bytes(order.bytes);
      query.set_load_ms(milliseconds_of(order.load_ms));
      query.set_urgency(urgency_of(order.priority));
    }
    send(request, Asked::kStatus, 0, std::move(looked_for));
  }
}

// --- what is heard ---

void ArbiterLink::on_channel_open() {
  pb::Request request;
  request.mutable_hello()->set_version(kProtocolVersion);
  request.mutable_hello()->set_client(std::string(start_of(client_)));
  request.mutable_hello()->set_epoch(epoch_);
  send(request, Asked::kHello, 0);
}

void ArbiterLink::on_channel_closed() {
  pending_.clear();
  if (std::exchange(is_welcome_, false)) observer_.on_arbiter_connected(false);
}

// Under a new record: the old one is given back.
void ArbiterLink::ask_anew(uint64_t lease) {
  const uint32_t number = number_of(lease);
  leases_[lease].is_wanted = false;
  send_release(lease);
  ask(number, leases_[lease].order);
}

// What is held is shown, what is not wanted any more is given back, what was not granted is asked for again.
void ArbiterLink::on_welcome(uint64_t epoch) {
  epoch_ = epoch;
  is_welcome_ = true;
  observer_.on_arbiter_connected(true);
  std::vector<uint64_t> all;
  for (const auto& [lease, held] : leases_) all.push_back(lease);
  for (const uint64_t lease : all) {
    Held& held = leases_[lease];
    held.is_released = false;
    // What has a name may have been granted meanwhile, and nobody heard of it.
    const bool is_named = !held.id.empty();
    if (held.is_granted && held.is_wanted) {
      send_claim(lease);
    } else if (held.is_wanted) {
      is_named ? ask_anew(lease) : send_ask(lease);
    } else if (is_named) {
      send_release(lease);
    } else {
      leases_.erase(lease);  // who asked is gone for the arbiter
    }
  }
}

void ArbiterLink::on_channel_packet(ByteView bytes) {
  pb::Reply reply;
  if (!reply.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) return;
  if (reply.has_yield_asked()) {
    for (const auto& [number, lease] : current_) {
      const Held& held = leases_[lease];
      if (held.id != reply.yield_asked().lease().id() || !held.is_granted) continue;
      pb::Request request;
      name(*request.mutable_yield_ack()->mutable_lease(), held);
      request.mutable_yield_ack()->set_eta_ms(held.is_used ? kYieldEta_ms : 0);
      send(request, Asked::kOther, lease);
      return observer_.on_model_recalled(number);
    }
    return;
  }
  const auto at = pending_.find(reply.number());
  if (at == pending_.end()) return;
  const Pending pending = at->second;
  if (!reply.has_queued()) pending_.erase(at);
  on_answer(pending, reply);
}

void ArbiterLink::on_answer(const Pending& pending, const pb::Reply& reply) {
  if (pending.what == Asked::kHello && reply.has_welcome()) return on_welcome(reply.welcome().epoch());
  if (pending.what == Asked::kStatus && reply.has_standing()) return on_standing(pending.looked_for, reply);
  if (pending.what == Asked::kRelease) leases_.erase(pending.lease);
  if (pending.what != Asked::kLease && pending.what != Asked::kClaim) return;
  if (!leases_.contains(pending.lease)) return;
  Held& held = leases_[pending.lease];
  if (reply.has_queued()) {
    held.id = reply.queued().lease().id();
    held.epoch = epoch_;
    if (!held.is_wanted) return send_release(pending.lease);
    observer_.on_model_queued(number_of(pending.lease));
  } else if (reply.has_granted()) {
    on_granted(pending.lease, reply.granted().lease());
  } else if (reply.has_refused()) {
    on_ended(pending.lease, code_from_number(reply.refused().code()).value_or(Code::kOverloaded),
             reply.refused().reason(), pending.what == Asked::kClaim);
  } else if (reply.has_failed()) {
    on_ended(pending.lease, code_from_number(reply.failed().code()).value_or(Code::kInternal), reply.failed().rule(),
             pending.what == Asked::kClaim);
  }
}

void ArbiterLink::on_standing(const std::vector<uint32_t>& looked_for, const pb::Reply& reply) {
  const auto& outlooks = reply.standing().outlooks();
  if (static_cast<size_t>(outlooks.size()) != looked_for.size()) return;  // of a version that knows no queries
  for (int i = 0; i < outlooks.size(); ++i) {
    const pb::Outlook& told = outlooks[i];
    constexpr wire::ModelPlace kPlaces[] = {wire::ModelPlace::kDisk, wire::ModelPlace::kCached,
                                            wire::ModelPlace::kLoading, wire::ModelPlace::kResident};
    const bool is_known = told.place() >= pb::Outlook::PLACE_DISK && told.place() <= pb::Outlook::PLACE_RESIDENT;
    observer_.on_model_looked_at(looked_for[static_cast<size_t>(i)],
                                 {.place = is_known ? kPlaces[told.place()] : wire::ModelPlace::kUnknown,
                                  .never_fits = told.never_fits(),
                                  .usable_in_ms = told.usable_in_ms(),
                                  .pressure = told.pressure(),
                                  .band = told.band()});
  }
}

void ArbiterLink::on_granted(uint64_t lease, const pb::Lease& name) {
  Held& held = leases_[lease];
  held.id = name.id();
  held.epoch = epoch_;
  if (!held.is_wanted) return send_release(lease);
  if (!std::exchange(held.is_granted, true)) return observer_.on_model_granted(number_of(lease));
  // It was claimed.
  if (held.is_loaded) send_commit(lease);
  if (held.is_used) send_use(lease);
}

void ArbiterLink::on_ended(uint64_t lease, Code code, const std::string& reason, bool was_claimed) {
  if (!leases_[lease].is_wanted) {
    leases_.erase(lease);
    return;
  }
  const uint32_t number = number_of(lease);
  // It may not lease for that process, or that is gone: then for itself.
  const bool is_about_process = reason == "pid_not_yours" || reason == "process_ended";
  if (is_about_process && !was_claimed && leases_[lease].order.pid != 0) {
    ModelOrder order = leases_[lease].order;
    order.pid = 0;
    leases_.erase(lease);
    return ask(number, std::move(order));
  }
  current_.erase(number);
  if (!was_claimed) {
    leases_.erase(lease);
    return observer_.on_model_refused(number, code, reason);
  }
  // It may not be taken up again, but that it is not used any more can still be said.
  leases_[lease].is_wanted = false;
  send_release(lease);
  observer_.on_model_lost(number);
}

}  // namespace mesh::proxy
