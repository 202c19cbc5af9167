#include "tools/meshctl/top.h"

#include <algorithm>

namespace mesh::ctl {
namespace {

// Less than before: the sidecar was restarted, and all of it is new.
uint64_t grown(uint64_t before, uint64_t after) { return after >= before ? after - before : after; }

}  // namespace

Sample sample_of(const Json& stats) {
  Sample sample;
  sample.uptime_ms = count_at(stats, "uptime_ms");
  for (const Json& service : list_at(stats, "services")) {
    Sample::Service& to = sample.services[text_at(service, "service")];
    const Json& latency_us = at(service, "latency_us");
    for (const Json& bucket : list_at(latency_us, "buckets")) {
      const bool is_pair =
          bucket.is_array() && bucket.size() == 2 && bucket[0].is_number_unsigned() && bucket[1].is_number_unsigned();
      if (is_pair) to.latency_us.add(bucket[0].get<size_t>(), bucket[1].get<uint64_t>());
    }
    const Json& results = at(service, "results");
    for (const auto& [code, count] : results.items()) {
      if (code != "OK") to.errors += count_at(results, code);
    }
    to.in_flight = count_at(service, "in_flight");
  }
  const Json& batches = at(stats, "batches");
  sample.batches_sent = count_at(batches, "sent");
  sample.envelopes_sent = count_at(batches, "envelopes_sent");
  for (const Json& refused : list_at(stats, "refused")) sample.refused += count_at(refused, "count");
  return sample;
}

Json rates(const Samples& before, const Samples& after, double interval_s) {
  std::map<std::string, Sample::Service> sums;
  uint64_t batches = 0;
  uint64_t envelopes = 0;
  uint64_t refused = 0;
  const Sample none;
  for (const auto& [sidecar, now] : after) {
    const auto found = before.find(sidecar);
    // A younger process has counted all it has since then.
    const Sample& then = found == before.end() || now.uptime_ms < found->second.uptime_ms ? none : found->second;
    batches += grown(then.batches_sent, now.batches_sent);
    envelopes += grown(then.envelopes_sent, now.envelopes_sent);
    refused += grown(then.refused, now.refused);
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
  return {{"interval_s", interval_s},
          {"mean_batch", mean},
          {"refused_per_s", static_cast<double>(refused) / interval_s},
          {"services", services}};
}

std::string rates_text(const Json& rates, const Paint& paint) {
  std::vector<std::vector<std::string>> rows = {{"service", "per second", "p50", "p99", "errors/s", "in flight"}};
  for (std::string& name : rows[0]) name = paint(Tone::kStrong, name);
  for (const Json& service : list_at(rates, "services")) {
    const bool is_busy = number_at(service, "rate") > 0;
    const bool fails = number_at(service, "errors_per_s") > 0;
    rows.push_back({text_at(service, "service"), number_text(number_at(service, "rate"), 1),
                    is_busy ? duration_text(number_at(service, "p50_us")) : "–",
                    is_busy ? duration_text(number_at(service, "p99_us")) : "–",
                    paint(fails ? Tone::kBad : Tone::kPlain, number_text(number_at(service, "errors_per_s"), 1)),
                    std::to_string(count_at(service, "in_flight"))});
  }
  const double refused = number_at(rates, "refused_per_s");
  return table(rows, {1, 2, 3, 4, 5}) + "calls per batch: " + number_text(number_at(rates, "mean_batch"), 2) +
         "  refused/s: " + paint(refused > 0 ? Tone::kBad : Tone::kPlain, number_text(refused, 1)) + "\n";
}

}  // namespace mesh::ctl
