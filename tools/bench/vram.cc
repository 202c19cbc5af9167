// mesh-bench-vram: what models wait for, and how much of the cards is of use, by who lends the memory. Prints a line of
// JSON for each trace on each set of cards and each lender.
#include <fstream>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

#include "tools/bench/vram_lenders.h"

namespace mesh::bench {
namespace {

constexpr const char* kUsage =
    "usage: mesh-bench-vram REQUESTS SEEDS NETWORK_US CARDS [NAME=FILE]…\n"
    "Replays traces of so many requests, of so many seeds, and those of the files. CARDS: GiB of each host's card, as\n"
    "24,12. Of each request in a file a line AT_MS MODEL UNITS LOAD_MS HOLD_MS HOST.\n";

struct Named {
  std::string name;
  uint64_t seed;
  VramTrace trace;
};

std::vector<gpu::Units> cards_of(const std::string& text) {
  std::vector<gpu::Units> cards;
  for (size_t at = 0; at <= text.size();) {
    const size_t end = std::min(text.find(',', at), text.size());
    const unsigned long gib = std::stoul(text.substr(at, end - at));
    if (gib < 1 || gib > 1024) throw std::invalid_argument("a card has 1 to 1024 GiB");
    cards.push_back(gpu::units_of(gib * gpu::kGiB));
    at = end + 1;
  }
  return cards;
}

std::vector<Named> made_traces(size_t uses, uint64_t seeds, const std::vector<gpu::Units>& cards) {
  double scale = 0;
  for (const gpu::Units card : cards) scale += gpu::to_gib(card) / 12;
  std::vector<Named> traces;
  for (uint64_t seed = 1; seed <= seeds; ++seed) {
    VramShape shape{.seed = seed, .uses = uses, .hosts = cards.size(), .scale = scale};
    traces.push_back({"steady", seed, made_trace(shape)});
    shape.is_shifting = true;
    traces.push_back({"shifting", seed, made_trace(shape)});
    shape.is_shifting = false;
    shape.has_xl = true;
    traces.push_back({"large ones", seed, made_trace(shape)});
  }
  return traces;
}

Named read_trace(const std::string& argument, size_t hosts) {
  const size_t at = argument.find('=');
  if (at == std::string::npos) throw std::invalid_argument(argument + " is no NAME=FILE");
  std::ifstream file(argument.substr(at + 1));
  return {argument.substr(0, at), 0, read_vram_trace(file, hosts)};
}

void tell(const Named& named, VramLender lender, const VramTerms& terms) {
  const VramOutcome outcome = replay(lender, named.trace, terms);
  std::cout << R"({"trace":")" << named.name << R"(","seed":)" << named.seed << R"(,"lender":")" << name_of(lender)
            << R"(","requests":)" << named.trace.uses.size() << R"(,"resident":)" << outcome.resident_mean
            << R"(,"wait_mean_s":)" << outcome.wait_mean_s << R"(,"wait_p50_s":)" << outcome.wait_s(0.5)
            << R"(,"wait_p90_s":)" << outcome.wait_s(0.9) << R"(,"wait_p99_s":)" << outcome.wait_s(0.99)
            << R"(,"wait_max_s":)" << outcome.wait_s(1) << R"(,"loads":)" << outcome.loads << R"(,"load_s":)"
            << outcome.load_s << R"(,"served":)" << outcome.waits_s.size() << R"(,"refused":)" << outcome.refused
            << R"(,"remote":)" << outcome.remote << R"(,"cards":[)";
  for (size_t host = 0; host < terms.cards.size(); ++host) {
    std::cout << (host == 0 ? "" : ",") << R"({"bytes":)" << gpu::to_bytes(terms.cards[host]) << R"(,"held_max_bytes":)"
              << gpu::to_bytes(outcome.held_max[host]) << "}";
  }
  std::cout << "]}" << std::endl;
}

}  // namespace
}  // namespace mesh::bench

int main(int argc, char** argv) {
  using namespace mesh::bench;
  try {
    if (argc < 5) throw std::invalid_argument("something is missing");
    const size_t requests = std::stoul(argv[1]);
    if (requests < 100) throw std::invalid_argument("100 requests at least");
    const VramTerms terms{cards_of(argv[4]), std::chrono::microseconds(std::stoul(argv[3]))};
    std::vector<Named> traces = made_traces(requests, std::stoul(argv[2]), terms.cards);
    for (int i = 5; i < argc; ++i) traces.push_back(read_trace(argv[i], terms.cards.size()));
    for (const Named& named : traces) {
      for (const VramLender lender : kVramLenders) tell(named, lender, terms);
    }
  } catch (const std::exception& error) {
    std::cerr << "mesh-bench-vram: " << error.what() << '\n' << kUsage;
    return 64;
  }
}
