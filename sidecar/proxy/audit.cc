// Whether the books that are kept in passing agree with what is there, and nothing is more than it may be. For
// simulations: it looks at every call.

#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "sidecar/proxy/engine.h"

namespace mesh::proxy {
namespace {

std::string differ(std::string_view what, uint64_t kept, uint64_t counted) {
  if (kept == counted) return "";
  return std::string(what) + " is " + std::to_string(counted) + ", the books say " + std::to_string(kept) + "; ";
}

std::string exceeds(std::string_view what, uint64_t counted, uint64_t limit) {
  if (counted <= limit) return "";
  return std::string(what) + " is " + std::to_string(counted) + ", the limit is " + std::to_string(limit) + "; ";
}

}  // namespace

std::string Outbound::audit() {
  struct Sum {
    uint64_t calls = 0;
    uint64_t bytes = 0;
  };
  std::vector<std::vector<Sum>> sums(services_.size());
  for (ServiceIndex s = 0; s < services_.size(); ++s) sums[s].resize(services_[s].instances.size());
  uint64_t held = 0;
  struct ClientSum : Sum {
    uint64_t largest = 0;
  };
  std::map<ClientId, ClientSum> clients;
  const auto count_client = [&](const Call& call) {
    if (call.path.client == 0) return;
    ClientSum& sum = clients[call.path.client];
    ++sum.calls;
    sum.bytes += call.path.bytes;
    sum.largest = std::max(sum.largest, call.path.bytes);
  };
  waiting_.for_each([&](uint64_t, const Waiting& waiting) { count_client(waiting.call); });
  calls_.for_each([&](uint64_t, const Call& call) {
    count_client(call);
    held += call.bytes;
    Sum& sum = sums[call.service][call.instance];
    ++sum.calls;
    sum.bytes += call.bytes;
  });
  for (const auto& fetch : waiting_for_host_) held += fetch->payload.body.size();
  std::string problem = differ("what open calls hold", held_bytes_, held);
  for (ServiceIndex s = 0; s < services_.size(); ++s) {
    for (size_t i = 0; i < sums[s].size(); ++i) {
      const Instance& instance = services_[s].instances[i];
      problem += differ("what is in flight", instance.in_flight, sums[s][i].calls);
      problem += differ("what is in flight in bytes", instance.bytes_in_flight, sums[s][i].bytes);
      if (instance.local) continue;
      problem += exceeds("what is in flight", instance.in_flight, config_.limits.calls_per_target_max);
      problem +=
          exceeds("what is in flight in bytes", instance.bytes_in_flight, config_.limits.queued_bytes_per_target);
    }
  }
  problem += exceeds("what is held", held_bytes_, config_.limits.process_queued_bytes);
  for (const auto& [client, sum] : clients) {
    problem += exceeds("what one client has open", sum.calls, limits::client_open_calls_max);
    // The message that makes it too much is taken.
    problem += exceeds("what one client has open in bytes", sum.bytes, limits::client_open_bytes + sum.largest);
  }
  return problem;
}

std::string Inbound::audit() {
  struct Sum {
    uint64_t working = 0;
    uint64_t intending = 0;
    uint64_t queued = 0;
    uint64_t bytes = 0;
  };
  std::vector<Sum> sums(agents_.size());
  uint64_t live = 0;
  std::vector<std::pair<uint64_t, uint64_t>> models(models_.size());
  uint64_t waiters_max = 0;
  uint64_t queued_bytes = 0;
  calls_.for_each([&](uint64_t, const Call& call) {
    Sum& sum = sums[call.agent];
    if (call.keyed ? !call.keyed->waiters.empty() : call.state != State::kAbandoned) ++live;
    if (call.model != kNoModel && call.state != State::kIntending)
      ++(call.has_model ? models[call.model].first : models[call.model].second);
    const bool is_intending = call.state == State::kIntending;
    if (is_intending) ++sum.intending;
    if (call.state == State::kDelivered || call.state == State::kAbandoned) ++sum.working;
    if (call.state == State::kQueued) ++sum.queued, sum.bytes += call.bytes;
    if (call.state == State::kQueued || is_intending) queued_bytes += call.bytes;
    if (call.keyed) waiters_max = std::max<uint64_t>(waiters_max, call.keyed->waiters.size());
  });
  for (const auto& [ticket, loading] : loading_) live += loading.is_wanted ? 1 : 0, queued_bytes += loading.bytes;
  std::string problem = differ("what is open", live_, live) + differ("what is queued", queued_bytes_, queued_bytes);
  for (size_t i = 0; i < sums.size(); ++i) {
    const Agent& agent = agents_[i];
    problem += differ("what agents work on", agent.working, sums[i].working);
    problem += differ("what is to be queued for an agent", agent.intending, sums[i].intending);
    problem += differ("what is queued for an agent", agent.queue.size(), sums[i].queued);
    problem += differ("what is queued for an agent in bytes", agent.queued_bytes, sums[i].bytes);
    problem += exceeds("what an agent has", agent.working + agent.queue.size() + agent.intending,
                       config_.limits.calls_per_target_max);
    problem +=
        exceeds("what is queued for an agent in bytes", agent.queued_bytes, config_.limits.queued_bytes_per_target);
  }
  for (ModelIndex i = 0; i < models.size(); ++i) problem += models_.audit(i, models[i].first, models[i].second);
  problem += exceeds("what is queued", queued_bytes_, config_.limits.process_queued_bytes);
  problem += exceeds("who waits for one key", waiters_max, limits::waiters_per_key_max);
  problem += exceeds("results that are being read", loading_.size(), limits::calls_per_target_max);
  problem += exceeds("keys", keyed_calls_.size(), limits::keys_max + calls_.size());
  problem += exceeds("kept results in bytes", keyed_calls_.kept_bytes(), limits::kept_results_bytes);
  return problem;
}

}  // namespace mesh::proxy
