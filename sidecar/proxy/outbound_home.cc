// Replies that are kept beside their agent, for all who ask from elsewhere.
//
// A peer's call is one more that wants what is kept: it is answered with it, or waits for the one fetch that all wait
// for, which goes to an agent of this sidecar and nowhere else.

#include <algorithm>
#include <utility>

#include "sidecar/proxy/outbound.h"

namespace mesh::proxy {
namespace {

using contract::Tier;

bool is_kept_here(const contract::Terms& terms) {
  if (terms.cache == nullptr || terms.cache->ttl_ms == 0 || terms.cache->is_per_caller) return false;
  return terms.cache->uses(Tier::kHome) || terms.cache->uses(Tier::kDisk);
}

}  // namespace

bool Outbound::take_home(PeerRequested& event, Instant now, Actions& out) {
  const bool has_key = event.delivery != nullptr && !event.delivery->key.empty();
  if (draining_ || has_key || event.needs_unknown || event.budget <= Duration{0}) return false;
  const auto service = services_.find(event.service);
  if (!service || services_[*service].agents.empty() || !services_[*service].is_at_home) return false;
  const contract::Terms terms = services_.terms(*service, event.method);
  const uint64_t bytes = event.payload.body.size();
  if (!is_kept_here(terms) || bytes > terms.max_bytes) return false;
  if (services_[*service].has_writes && !knows_as_much_as(event, *service)) {
    renew_leases(*service, now, out);
    return false;
  }
  Call call{.path = {.link = event.link, .call_id = event.call_id, .decompress_us = event.decompress_us},
            .service = *service,
            .is_sensitive = terms.sensitive || (event.delivery != nullptr && event.delivery->is_sensitive),
            .priority = event.priority,
            .deadline = now + event.budget,
            .trace = begin_trace(to_us(event.budget), now),
            .bytes = bytes,
            .method = std::string(event.method),
            .key = nullptr,
            .payload = {}};
  const Keeping keeping{.cache = terms.cache};
  AgentRequested request{.path = {},
                         .service = event.service,
                         .method = event.method,
                         .budget_ms = std::max<int64_t>(1, to_us(event.budget) / 1000),
                         .priority = event.priority,
                         .max_bytes = terms.max_bytes,
                         .idempotent = terms.idempotent,
                         .is_sensitive = call.is_sensitive,
                         .keeping = &keeping,
                         .payload = std::move(event.payload)};
  if (answer_from_cache(call, request, now, out)) {
    counters_.add(Counter::kPeerRequests);
    if (event.delivery != nullptr && event.delivery->attempt > 1) counters_.add(Counter::kRetriesReceived);
    return true;
  }
  event.payload = std::move(request.payload);
  return false;
}

// Where another instance writes as well, what it told the caller may not be known here yet, and he would keep what this
// one gives him as new. (What it told this one and not yet him, he will hear of.)
bool Outbound::knows_as_much_as(const PeerRequested& caller, ServiceIndex index) const {
  if (caller.delivery == nullptr || caller.delivery->knowledge == 0) return false;
  const auto& instances = services_[index].instances;
  const auto own = std::find_if(instances.begin(), instances.end(), [](const Instance& each) { return each.local; });
  return caller.delivery->knowledge == knowledge_beside(index, static_cast<uint32_t>(own - instances.begin()));
}

void Outbound::forget_home(LinkId link, std::optional<uint64_t> call_id) {
  if (waiting_.size() == 0) return;
  drop_waiting([&](const ReturnPath& path) { return path.link == link && (!call_id || path.call_id == *call_id); });
}

// What it waited for an agent is the fetch's; the rest of its time it waited for others.
void Outbound::reply_to_peer(Call& call, Outcome&& outcome, const wire::CalleeSpans* spans, Instant now, Actions& out) {
  const auto waited_us = static_cast<uint32_t>(to_us(now - call.trace.started));
  wire::CalleeSpans own{
      .received_us = static_cast<uint64_t>(to_us(call.trace.started.time_since_epoch())) - call.path.decompress_us,
      .decompress_us = call.path.decompress_us,
      .queue_us = waited_us};
  if (spans != nullptr && spans->agent_us != wire::CalleeSpans::kAgentNotReached) {
    own.agent_us = std::min(spans->agent_us, waited_us);
    own.queue_us = waited_us - own.agent_us;
  }
  if (is_hit(call.trace.cache.verdict)) outcome.cache = std::make_unique<telemetry::CacheTrace>(call.trace.cache);
  out.emplace_back(std::in_place_type<SendReply>, call.path.link, call.path.call_id, std::move(outcome), own,
                   call.is_sensitive);
}

}  // namespace mesh::proxy
