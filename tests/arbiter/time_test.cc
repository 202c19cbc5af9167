// What it costs: figures are printed, not judged, since they are the machine's as well.

#include <doctest/doctest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <vector>

#include "tests/arbiter/arbiter_process.h"

namespace mesh::arbiter {
namespace {

void time_grants(const char* what, pb::Kind kind, size_t batch, int repeats) {
  const ArbiterProcess arbiter("4G");
  const auto client = arbiter.connected();
  std::vector<double> times;
  for (int i = 0; i < repeats; ++i) {
    std::vector<HeldLease> held;
    for (size_t k = 0; k < batch; ++k) {
      const double began = seconds_now();
      auto lease = client->ask(ask_for(kind, 2 * kMi));
      times.push_back(seconds_now() - began);
      REQUIRE(lease);
      held.push_back(std::move(*lease));
    }
    for (HeldLease& lease : held) REQUIRE(client->release(lease));
    REQUIRE(arbiter.comes_to_say("gpus", "\"leased_bytes\":0"));
  }
  print_times(what, std::move(times));
}

TEST_CASE("how long a grant takes") {
  time_grants("accounted", pb::KIND_ACCOUNTED, 64, 16);
  time_grants("backed, 2 MiB", pb::KIND_BACKED, 1, 200);
}

TEST_CASE("how long 1 GiB takes from one process to another") {
  const ArbiterProcess arbiter("2G");
  const auto first = arbiter.connected();
  const auto second = arbiter.connected();
  std::vector<double> mapped;
  std::vector<double> touched;
  std::vector<double> fresh;
  const auto map_all = [](const HeldLease& lease, int flags) {
    for (const HeldChunk& chunk : lease.chunks) {
      void* const at = mmap(nullptr, chunk.bytes, PROT_READ | PROT_WRITE, MAP_SHARED | flags, chunk.fd.get(), 0);
      REQUIRE(at != MAP_FAILED);
      munmap(at, chunk.bytes);
    }
  };
  for (int i = 0; i < 5; ++i) {
    double began = seconds_now();
    auto lease = first->ask(ask_for(pb::KIND_BACKED, 1024 * kMi));
    REQUIRE(lease);
    map_all(*lease, MAP_POPULATE);
    if (i == 0) fresh.push_back(seconds_now() - began);
    REQUIRE(first->release(*lease));
    began = seconds_now();
    auto given = second->ask(ask_for(pb::KIND_BACKED, 1024 * kMi));
    REQUIRE(given);
    map_all(*given, 0);
    mapped.push_back(seconds_now() - began);
    map_all(*given, MAP_POPULATE);
    touched.push_back(seconds_now() - began);
    REQUIRE(second->release(*given));
  }
  print_times("asked, granted and mapped", mapped);
  print_times("and faulted in", touched);
  print_times("created anew and faulted in", fresh);
}

uint64_t shared_pss_bytes() {
  std::ifstream file("/proc/self/smaps_rollup");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("Pss_Shmem:")) return std::stoull(line.substr(10)) * 1024;
  }
  return 0;
}

struct Readers {
  std::atomic<int> writers;
  std::atomic<int> mapped;
  std::atomic<int> measured;
  std::atomic<int> writable;
  std::atomic<int> wrong;
  std::atomic<uint64_t> pss_bytes;
};

constexpr uint64_t kWeightBytes = 256 * kMi;
constexpr int kReaders = 4;

int read_weights(const ArbiterProcess& arbiter, Readers& readers) {
  const auto client = arbiter.connected();
  pb::Ask ask = ask_for(pb::KIND_SHARED, kWeightBytes);
  ask.set_model("sixteen byte key");
  const auto lease = client->ask(ask, 30'000);
  if (!lease) return 1;
  const int fd = lease->chunks[0].fd.get();
  if (lease->grant.is_writer()) {
    ++readers.writers;
    void* const at = mmap(nullptr, kWeightBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    std::fill_n(static_cast<uint64_t*>(at), kWeightBytes / 8, 0x5eedULL);
    munmap(at, kWeightBytes);
    if (!client->seal(*lease)) return 2;
  } else if (mmap(nullptr, kWeightBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) != MAP_FAILED) {
    ++readers.writable;
  }
  const auto* const weights =
      static_cast<const uint64_t*>(mmap(nullptr, kWeightBytes, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0));
  if (weights == MAP_FAILED) return 3;
  for (size_t i = 0; i < kWeightBytes / 8; i += 512) readers.wrong += weights[i] != 0x5eed ? 1 : 0;
  ++readers.mapped;
  while (readers.mapped < kReaders) usleep(500);
  readers.pss_bytes += shared_pss_bytes();
  ++readers.measured;
  while (readers.measured < kReaders) usleep(500);
  return 0;
}

TEST_CASE("weights that four processes read are loaded once and held once, and nobody writes to them any more") {
  const ArbiterProcess arbiter("1G");
  const SharedValue<Readers> readers;
  std::vector<pid_t> reading;
  for (int i = 0; i < kReaders; ++i) reading.push_back(start_process([&] { return read_weights(arbiter, *readers); }));
  for (const pid_t pid : reading) CHECK(exit_code_of(pid) == 0);
  MESSAGE("shared memory by proportion: " << readers->pss_bytes.load() / kMi << " MiB for " << kWeightBytes / kMi);
  CHECK(readers->writers == 1);
  CHECK(readers->writable == 0);
  CHECK(readers->wrong == 0);
  CHECK(readers->pss_bytes <= kWeightBytes + kWeightBytes / 50);
  CHECK(arbiter.comes_to_say("segments", "\"state\":\"idle\""));
}

}  // namespace
}  // namespace mesh::arbiter
