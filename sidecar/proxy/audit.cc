// Whether the books that are kept in passing agree with what is there. For simulations: it looks at every call.

#include <vector>

#include "sidecar/proxy/engine.h"

namespace mesh::proxy {
namespace {

std::string differ(std::string_view what, uint64_t kept, uint64_t counted) {
  if (kept == counted) return "";
  return std::string(what) + " is " + std::to_string(counted) + ", the books say " + std::to_string(kept) + "; ";
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
  calls_.for_each([&](uint64_t, const Call& call) {
    held += call.bytes;
    Sum& sum = sums[call.service][call.instance];
    ++sum.calls;
    sum.bytes += call.bytes;
  });
  std::string problem = differ("what open calls hold", held_bytes_, held);
  for (ServiceIndex s = 0; s < services_.size(); ++s) {
    for (size_t i = 0; i < sums[s].size(); ++i) {
      const Instance& instance = services_[s].instances[i];
      problem += differ("what is in flight", instance.in_flight, sums[s][i].calls);
      problem += differ("what is in flight in bytes", instance.bytes_in_flight, sums[s][i].bytes);
    }
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
  uint64_t queued_bytes = 0;
  calls_.for_each([&](uint64_t, const Call& call) {
    Sum& sum = sums[call.agent];
    if (call.keyed ? !call.keyed->waiters.empty() : call.state != State::kAbandoned) ++live;
    const bool is_intending = call.state == State::kIntending;
    if (is_intending) ++sum.intending;
    if (call.state == State::kDelivered || call.state == State::kAbandoned) ++sum.working;
    if (call.state == State::kQueued) ++sum.queued, sum.bytes += call.bytes;
    if (call.state == State::kQueued || is_intending) queued_bytes += call.bytes;
  });
  for (const auto& [ticket, loading] : loading_) live += loading.is_wanted ? 1 : 0, queued_bytes += loading.bytes;
  std::string problem = differ("what is open", live_, live) + differ("what is queued", queued_bytes_, queued_bytes);
  for (size_t i = 0; i < sums.size(); ++i) {
    const Agent& agent = agents_[i];
    problem += differ("what agents work on", agent.working, sums[i].working);
    problem += differ("what is to be queued for an agent", agent.intending, sums[i].intending);
    problem += differ("what is queued for an agent", agent.queue.size(), sums[i].queued);
    problem += differ("what is queued for an agent in bytes", agent.queued_bytes, sums[i].bytes);
  }
  return problem;
}

}  // namespace mesh::proxy
