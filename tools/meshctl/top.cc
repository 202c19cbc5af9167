#include "tools/meshctl/top.h"

#include <algorithm>
#include <array>
#include <cstdio>

namespace mesh::ctl {
namespace {

std::string fixed(double number, int digits) {
  std::array<char, 40> text{};
  std::snprintf(text.data(), text.size(), "%.*f", digits, number);
  return text.data();
}

// Less than before: the sidecar was restarted, and all of it is new.
uint64_t grown(uint64_t before, uint64_t after) { return after >= before ? after - before : after; }

}  // namespace

Sample sample_of(const Json& stats) {
  Sample sample;
  for (const Json& service : stats["services"]) {
    Sample::Service& to = sample.services[service["service"].get<std::string>()];
    for (const Json& bucket : service["latency_us"]["buckets"]) {
      to.latency_us.add(bucket[0].get<size_t>(), bucket[1].get<uint64_t>());
    }
    for (const auto& [code, count] : service["results"].items()) {
      if (code != "OK") to.errors += count.get<uint64_t>();
    }
    to.in_flight = service["in_flight"].get<uint64_t>();
  }
  sample.batches_sent = stats["batches"]["sent"].get<uint64_t>();
  sample.envelopes_sent = stats["batches"]["envelopes_sent"].get<uint64_t>();
  return sample;
}

Json rates(const Samples& before, const Samples& after, double interval_s) {
  std::map<std::string, Sample::Service> sums;
  uint64_t batches = 0;
  uint64_t envelopes = 0;
  const Sample none;
  for (const auto& [sidecar, now] : after) {
    const auto at = before.find(sidecar);
    const Sample& then = at == before.end() ? none : at->second;
    batches += grown(then.batches_sent, now.batches_sent);
    envelopes += grown(then.envelopes_sent, now.envelopes_sent);
    for (const auto& [name, service] : now.services) {
      const auto old = then.services.find(name);
      Sample::Service& sum = sums[name];
      sum.latency_us.merge(old == then.services.end() ? service.latency_us
                                                      : service.latency_us.since(old->second.latency_us));
      sum.errors += old == then.services.end() ? service.errors : grown(old->second.errors, service.errors);
      sum.in_flight += service.in_flight;
    }
  }
  std::vector<std::pair<std::string, Sample::Service>> busiest(sums.begin(), sums.end());
  std::stable_sort(busiest.begin(), busiest.end(), [](const auto& a, const auto& b) {
    return a.second.latency_us.count() > b.second.latency_us.count();
  });
  Json services = Json::array();
  for (const auto& [name, service] : busiest) {
    services.push_back({{"service", name},
                        {"rate", static_cast<double>(service.latency_us.count()) / interval_s},
                        {"errors_per_s", static_cast<double>(service.errors) / interval_s},
                        {"p50_us", service.latency_us.quantile(0.5)},
                        {"p99_us", service.latency_us.quantile(0.99)},
                        {"in_flight", service.in_flight}});
  }
  const double mean = batches > 0 ? static_cast<double>(envelopes) / static_cast<double>(batches) : 0;
  return {{"interval_s", interval_s}, {"mean_batch", mean}, {"services", services}};
}

std::string rates_text(const Json& rates, const Paint& paint) {
  std::vector<std::vector<std::string>> rows = {{"service", "per second", "p50", "p99", "errors/s", "in flight"}};
  for (std::string& name : rows[0]) name = paint(Tone::kStrong, name);
  for (const Json& service : rates["services"]) {
    const bool is_busy = service["rate"].get<double>() > 0;
    const bool fails = service["errors_per_s"].get<double>() > 0;
    rows.push_back({service["service"], fixed(service["rate"], 1), is_busy ? duration_text(service["p50_us"]) : "–",
                    is_busy ? duration_text(service["p99_us"]) : "–",
                    paint(fails ? Tone::kBad : Tone::kPlain, fixed(service["errors_per_s"], 1)),
                    service["in_flight"].dump()});
  }
  return table(rows, {1, 2, 3, 4, 5}) + "calls per batch: " + fixed(rates["mean_batch"], 2) + "\n";
}

}  // namespace mesh::ctl
