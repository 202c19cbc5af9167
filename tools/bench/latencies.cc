#include "tools/bench/latencies.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <iostream>
#include <stdexcept>

namespace mesh::bench {
namespace {

double percentile_us(const std::vector<uint32_t>& sorted_ns, double fraction) {
  const auto rank = static_cast<size_t>(std::ceil(fraction * static_cast<double>(sorted_ns.size())));
  return sorted_ns[std::clamp<size_t>(rank, 1, sorted_ns.size()) - 1] / 1e3;
}

// The distribution on the axis of HDR plots: each step halves what is left above, in quarters of a halving, as far as
// there are samples.
void print_distribution(const std::vector<uint32_t>& sorted_ns) {
  const char* separator = "";
  for (int step = 0; step < 100; ++step) {
    const double above = std::exp2(-step / 4.0);
    if (above * static_cast<double>(sorted_ns.size()) < 1) break;
    std::printf("%s[%.7g,%.3f]", separator, 1 - above, percentile_us(sorted_ns, 1 - above));
    separator = ",";
  }
}

}  // namespace

void announce(const char* word) {
  std::cout << word << std::endl;
  std::string line;
  if (!std::getline(std::cin, line)) throw std::runtime_error("the starter is gone");
}

void print_latencies(std::vector<uint32_t> latencies_ns, double seconds, const std::string& from) {
  auto& sorted_ns = latencies_ns;
  std::sort(sorted_ns.begin(), sorted_ns.end());
  std::printf("{\"requests\":%zu,\"seconds\":%.6f,\"p50_us\":%.3f,\"p99_us\":%.3f,\"p999_us\":%.3f,\"libzmq\":\"%s\",",
              sorted_ns.size(), seconds, percentile_us(sorted_ns, 0.5), percentile_us(sorted_ns, 0.99),
              percentile_us(sorted_ns, 0.999), from.c_str());
  std::printf("\"distribution\":[");
  print_distribution(sorted_ns);
  std::printf("]}\n");
}

}  // namespace mesh::bench
