// Runs the simulation over many seeds; replays one that fails, with its trace, and names the faults that it needs.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>

#include "tests/sim/simulation.h"

namespace {

using mesh::sim::draw_faults;
using mesh::sim::Fault;
using mesh::sim::Simulation;

using Chosen = std::vector<size_t>;  // positions among the seed's faults

// Of all seeds.
struct Seen {
  Simulation::Seen sum;

  void add(const Simulation::Seen& seen) {
    sum.facts.reads += seen.facts.reads;
    sum.facts.close_reads += seen.facts.close_reads;
    sum.facts.writes += seen.facts.writes;
    sum.facts.orders += seen.facts.orders;
    sum.facts.crossings += seen.facts.crossings;
    sum.outlived_replies += seen.outlived_replies;
    sum.grants += seen.grants;
  }
  std::string text() const {
    const auto number = [](uint64_t count) { return std::to_string(count); };
    return number(sum.facts.reads) + " reads judged against " + number(sum.facts.writes + sum.facts.orders) +
           " acknowledged purges (" + number(sum.facts.writes) + " writes, " + number(sum.facts.orders) + " orders), " +
           number(sum.facts.close_reads) + " of them within a lease; " + number(sum.facts.crossings) +
           " fetches crossed a purge; " + number(sum.outlived_replies) +
           " replies taken from the disk of a process before; " + number(sum.grants) + " grants of memory for models";
  }
};

std::vector<Fault> faults_of(uint64_t seed, const Chosen* only) {
  std::vector<Fault> drawn = draw_faults(seed);
  if (only == nullptr) return drawn;
  std::vector<Fault> kept;
  for (const size_t at : *only) {
    if (at < drawn.size()) kept.push_back(drawn[at]);
  }
  return kept;
}

bool fails(uint64_t seed, const Chosen& only) { return !Simulation(seed, faults_of(seed, &only)).run().empty(); }

// Without each fault in turn that is not needed.
Chosen shrink(uint64_t seed) {
  Chosen needed;
  for (size_t i = 0; i < draw_faults(seed).size(); ++i) needed.push_back(i);
  for (size_t i = 0; i < needed.size();) {
    Chosen without;
    std::copy_if(needed.begin(), needed.end(), std::back_inserter(without), [&](size_t at) { return at != needed[i]; });
    if (fails(seed, without)) {
      needed = without;
    } else {
      ++i;
    }
  }
  return needed;
}

std::string text_of(const Chosen& chosen) {
  std::string text;
  for (const size_t at : chosen) text += (text.empty() ? "" : ",") + std::to_string(at);
  return text.empty() ? "none" : text;
}

int replay(uint64_t seed, const Chosen* only) {
  Simulation simulation(seed, faults_of(seed, only), true);
  const auto violations = simulation.run();
  for (const std::string& line : simulation.lines()) std::puts(line.c_str());
  for (const std::string& violation : violations) std::printf("VIOLATION: %s\n", violation.c_str());
  std::printf("seed %lu, trace %016lx, %zu violations\n", seed, simulation.trace_hash(), violations.size());
  return violations.empty() ? 0 : 1;
}

int explore(uint64_t first, uint64_t count, uint64_t failures_max, const char* program) {
  const auto began = std::chrono::steady_clock::now();
  std::map<std::string, uint64_t> results;
  Seen seen;
  uint64_t failures = 0;
  uint64_t done = 0;
  for (uint64_t seed = first; seed < first + count && failures < failures_max; ++seed, ++done) {
    Simulation simulation(seed, draw_faults(seed));
    const auto violations = simulation.run();
    for (const auto& [code, number] : simulation.results()) results[code] += number;
    seen.add(simulation.seen());
    if (seed % 10 == 0) {
      // The same seed is the same story, to the last byte.
      Simulation again(seed, draw_faults(seed));
      again.run();
      if (again.trace_hash() != simulation.trace_hash()) {
        std::printf("seed %lu: two runs differ\n", seed);
        ++failures;
      }
    }
    if (violations.empty()) continue;
    ++failures;
    std::printf("seed %lu: %s\n", seed, violations[0].c_str());
    std::printf("  replay it with its trace: %s --replay %lu --only %s\n", program, seed,
                text_of(shrink(seed)).c_str());
    std::fflush(stdout);
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  std::printf("%lu seeds, %lu failed, %.1f s;", done, failures, seconds);
  for (const auto& [code, number] : results) std::printf(" %s %lu", code.c_str(), number);
  std::printf("\n%s\n", seen.text().c_str());
  return failures == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Simulated meshes under faults, one for each seed.");
  uint64_t first = 1;
  uint64_t count = 200;
  uint64_t failures_max = 5;
  uint64_t seed = 0;
  std::string only = "all";
  app.add_option("--first", first, "the first seed")->capture_default_str();
  app.add_option("--count", count, "how many")->capture_default_str();
  app.add_option("--failures", failures_max, "stop after so many")->capture_default_str();
  auto* replayed = app.add_option("--replay", seed, "runs this seed alone and prints its trace");
  app.add_option("--only", only, "of its faults only these, e.g. 0,3; or none");
  CLI11_PARSE(app, argc, argv);
  if (!*replayed) return explore(first, count, failures_max, argv[0]);
  if (only == "all") return replay(seed, nullptr);
  Chosen chosen;
  if (only != "none") {
    for (const std::string& part : CLI::detail::split(only, ',')) chosen.push_back(std::stoul(part));
  }
  return replay(seed, &chosen);
}
