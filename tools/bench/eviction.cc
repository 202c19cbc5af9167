// mesh-bench-eviction: how much of what is asked for is found in memory, and how much of what it cost is saved, by who
// is made to go when room is needed; and what a miss-ratio curve that looks at few keys says of LRU. Prints one line of
// JSON for each trace.
#include <algorithm>
#include <fstream>
#include <iostream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "common/cache/miss_ratio_curve.h"
#include "tools/bench/policies.h"

namespace mesh::bench {
namespace {

constexpr const char* kUsage =
    "usage: mesh-bench-eviction REQUESTS [NAME=FILE]…\n"
    "Compares on traces of so many requests, and on those of the files: of each request a line KEY BYTES COST_US.\n";

// Of the budget, and so that the lines of a plot have points enough.
constexpr double kFactors[] = {0.25, 0.5, 1, 2, 4};

struct Named {
  std::string name;
  Trace trace;
  uint64_t budget_bytes;
};

uint64_t bytes_of_all_keys(const Trace& trace) {
  std::vector<std::pair<uint64_t, uint32_t>> keys;
  for (const Asked& asked : trace) keys.emplace_back(asked.key, asked.bytes);
  std::sort(keys.begin(), keys.end());
  uint64_t bytes = 0;
  for (size_t i = 0; i < keys.size(); ++i) {
    if (i == 0 || keys[i].first != keys[i - 1].first) bytes += keys[i].second;
  }
  return bytes;
}

Named read_trace(const std::string& argument) {
  const size_t at = argument.find('=');
  if (at == std::string::npos) throw std::invalid_argument(argument + " is no NAME=FILE");
  std::ifstream file(argument.substr(at + 1));
  Trace trace;
  for (Asked asked{}; file >> std::hex >> asked.key >> std::dec >> asked.bytes >> asked.cost_us;)
    trace.push_back(asked);
  if (trace.empty()) throw std::invalid_argument(argument + ": there is no request in it");
  const uint64_t all = bytes_of_all_keys(trace);
  return {argument.substr(0, at), std::move(trace), all / 10};
}

std::vector<Named> made_traces(size_t requests) {
  // A tenth of all keys that are asked for by taste, where all are of one size; of a loop, two thirds.
  const auto shape = [&](double skew, Asked (*make)(uint64_t) = plain) {
    return TraceShape{.requests = requests, .keys = requests / 20, .skew = skew, .make = make};
  };
  TraceShape loop = shape(0);
  loop.keys = requests * 3 / 400;
  const uint64_t budget_bytes = requests * 5;
  return {
      {"zipf 0.7", zipf(shape(0.7)), budget_bytes},
      {"zipf 0.9", zipf(shape(0.9)), budget_bytes},
      {"zipf 1.1", zipf(shape(1.1)), budget_bytes},
      {"zipf 0.9, varied", zipf(shape(0.9, varied)), 10 * budget_bytes},
      {"zipf 0.9, scans", scanned(shape(0.9)), budget_bytes},
      {"loop of 1.5", looped(loop), budget_bytes},
      {"zipf 0.9, shifting", shifted(shape(0.9)), budget_bytes},
  };
}

std::string tell(const Score& score) {
  std::ostringstream text;
  text << "[" << score.hits << "," << score.saved << "]";
  return text.str();
}

void compare(const Named& named) {
  cache::MissRatioCurve curve(named.budget_bytes * 4);
  for (const Asked& asked : named.trace) curve.on_access(asked.key * 0xD6E8FEB86659FD93 ^ asked.key << 32, asked.bytes);
  std::cout << R"({"trace":")" << named.name << R"(","requests":)" << named.trace.size() << R"(,"duplicate_share":)"
            << duplicate_share(named.trace) << R"(,"budget_bytes":)" << named.budget_bytes << R"(,"sizes":[)";
  const char* separator = "";
  for (const double factor : kFactors) {
    const auto bytes = static_cast<uint64_t>(factor * static_cast<double>(named.budget_bytes));
    std::cout << separator << R"({"factor":)" << factor << R"(,"memory_tier":)" << tell(memory_tier(named.trace, bytes))
              << R"(,"lru":)" << tell(lru(named.trace, bytes)) << R"(,"s3fifo":)" << tell(s3fifo(named.trace, bytes))
              << R"(,"belady":)" << tell(belady(named.trace, bytes)) << R"(,"bound":)"
              << tell(bound(named.trace, bytes)) << R"(,"curve":)" << curve.hit_ratio(bytes) << "}";
    separator = ",";
  }
  std::cout << "]}" << std::endl;
}

}  // namespace
}  // namespace mesh::bench

int main(int argc, char** argv) {
  using namespace mesh::bench;
  try {
    if (argc < 2) throw std::invalid_argument("how many requests?");
    const size_t requests = std::stoul(argv[1]);
    if (requests < 1000) throw std::invalid_argument("1000 requests at least");
    std::vector<Named> traces = made_traces(requests);
    for (int i = 2; i < argc; ++i) traces.push_back(read_trace(argv[i]));
    for (const Named& named : traces) compare(named);
  } catch (const std::exception& error) {
    std::cerr << "mesh-bench-eviction: " << error.what() << '\n' << kUsage;
    return 64;
  }
}
