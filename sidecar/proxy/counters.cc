#include "sidecar/proxy/counters.h"

namespace mesh::proxy {
namespace {

constexpr std::array<std::string_view, static_cast<size_t>(Counter::kCount)> kNames = {
    "requests",
    "peer_requests",
    "delivered",
    "late_replies",
    "retries_after_not_sent",
    "retries_of_idempotent",
    "retries_denied",
    "retries_received",
    "hedges",
    "hedges_won",
    "keyed_duplicates",
    "cache_hits",
    "cache_stale",
    "cache_joined",
    "cache_joined_host",
    "cache_fetches",
    "cache_evicted",
    "cache_purges",
    "cache_purge_rounds",
    "cache_purge_orders",
    "cache_purges_unconfirmed",
    "model_waits",
    "model_refusals",
    "model_recalls",
    "caller_gone",
    "stuck_peers_freed",
    "batches_sent",
    "envelopes_sent",
    "batches_received",
    "envelopes_received",
    "links_opened",
    "links_lost",
    "agent_connects",
    "agent_losses",
    "client_connects",
    "client_refusals",
    "protocol_errors",
    "handshake_timeouts",
    "oversize_bodies",
};

}  // namespace

void Counters::refuse(std::string_view port, std::string_view rule) {
  const auto key = std::pair(std::string(port), std::string(rule));
  if (refused.size() < kRefusedMax || refused.contains(key)) {
    ++refused[key];
  } else {
    ++refused[{"other", "other"}];
  }
}

std::string_view to_string(Counter counter) { return kNames.at(static_cast<size_t>(counter)); }

}  // namespace mesh::proxy
