// Many processes that load at the same time on a card that has room for a few: with leases none finds it full.

#include <doctest/doctest.h>
#include <unistd.h>

#include <vector>

#include "common/base/prng.h"
#include "tests/arbiter/arbiter_process.h"

namespace mesh::arbiter {
namespace {

struct Tally {
  std::atomic<uint64_t> loads;
  std::atomic<uint64_t> out_of_memory;
  std::atomic<uint64_t> refused;
};

uint64_t some_size(Prng& prng) { return (32 + prng.below(112)) * io::kMemoryUnitBytes; }

// Asks first, then allocates by itself what it was granted.
int load_by_lease(const ArbiterProcess& arbiter, uint64_t seed, int rounds, Tally& tally) {
  const auto card = arbiter.card();
  const auto client = arbiter.connected();
  Prng prng(seed);
  for (int i = 0; i < rounds; ++i) {
    auto lease = client->ask(ask_for(pb::KIND_ACCOUNTED, some_size(prng)), 120'000);
    if (!lease) {
      ++tally.refused;
      continue;
    }
    auto memory = card->create(lease->bytes());
    ++tally.loads;
    if (!memory) ++tally.out_of_memory;
    usleep(static_cast<useconds_t>(1000 + prng.below(4000)));
    if (memory) memory->release();
    if (!client->release(*lease)) return 2;
  }
  return 0;
}

// Looks whether there is room, then allocates: as agents do that have no arbiter.
int load_by_looking(const ArbiterProcess& arbiter, uint64_t seed, int rounds, Tally& tally) {
  const auto card = arbiter.card();
  Prng prng(seed);
  for (int i = 0; i < rounds; ++i) {
    const uint64_t bytes = some_size(prng);
    double began = 0;
    for (;;) {
      began = seconds_now();
      const auto reading = card->query_device();
      if (reading && reading->used_bytes + bytes <= reading->total_bytes) break;
      usleep(1000);
    }
    const double looked_us = (seconds_now() - began) * 1e6;
    usleep(2000);  // until it has read its file
    auto memory = card->create(bytes);
    ++tally.loads;
    if (!memory) ++tally.out_of_memory;
    // As long as a look takes on a busy machine, too: otherwise nothing is held while others look.
    usleep(static_cast<useconds_t>(1000.0 + static_cast<double>(prng.below(4000)) + looked_us));
  }
  return 0;
}

template <class Load>
void race(const ArbiterProcess& arbiter, int processes, int rounds, Tally& tally, Load load) {
  std::vector<pid_t> racing;
  for (int i = 0; i < processes; ++i) {
    racing.push_back(start_process([&, i] { return load(arbiter, static_cast<uint64_t>(i) + 1, rounds, tally); }));
  }
  for (const pid_t pid : racing) CHECK(exit_code_of(pid) == 0);
}

TEST_CASE("of processes that race for a card none runs out of memory that it was granted") {
  const ArbiterProcess arbiter("1G");
  const int processes = rounds("MESH_RACE_PROCESSES", 8);
  const int each = rounds("MESH_RACE_ROUNDS", 50);
  const SharedValue<Tally> leased;
  const double began = seconds_now();
  race(arbiter, processes, each, *leased, load_by_lease);
  MESSAGE(processes << " processes, " << leased->loads.load() << " loads in " << seconds_now() - began << " s, "
                    << leased->out_of_memory.load() << " out of memory, " << leased->refused.load() << " refused");
  CHECK(leased->out_of_memory == 0);
  CHECK(leased->loads == static_cast<uint64_t>(processes * each));
  CHECK(arbiter.comes_to_say("gpus", "\"leased_bytes\":0"));
  CHECK(arbiter.comes_to_say("gpus", "\"books_agree\":true"));
}

TEST_CASE("without leases the same processes do run out of memory") {
  const ArbiterProcess arbiter("1G");
  const SharedValue<Tally> looked;
  race(arbiter, rounds("MESH_RACE_PROCESSES", 8), rounds("MESH_RACE_ROUNDS", 50), *looked, load_by_looking);
  MESSAGE(looked->loads.load() << " loads, " << looked->out_of_memory.load() << " out of memory");
  CHECK(looked->out_of_memory > 0);
}

}  // namespace
}  // namespace mesh::arbiter
