// What goes from hand to hand: times are printed, not judged, since they are the machine's as well; MESH_HANDOVERS says
// how often they are taken.

#include <doctest/doctest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <vector>

#include "tests/arbiter/arbiter_process.h"

namespace mesh::arbiter {
namespace {

constexpr uint64_t kHandedBytes = 1024 * kMi;
constexpr int kFewHandovers = 2;

std::vector<void*> map_all(const HeldLease& lease) {
  std::vector<void*> mapped;
  for (const HeldChunk& chunk : lease.chunks) {
    mapped.push_back(mmap(nullptr, chunk.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, chunk.fd.get(), 0));
    REQUIRE(mapped.back() != MAP_FAILED);
  }
  return mapped;
}

// Every page is mapped, for writing as well: what is shared and in memory needs no fault for each.
void fault_in(void* at, uint64_t bytes, int how) { REQUIRE(madvise(at, bytes, how) == 0); }

struct Hands {
  Bell first;
  Bell second;
  SharedValue<std::atomic<bool>> is_over;
};

// Has had all of the memory, and gives it back before the other one asks.
int hold_first(const ArbiterProcess& arbiter, const Hands& hands) {
  const auto client = arbiter.connected();
  for (bool is_new = true; hands.first.wait() && !*hands.is_over; is_new = false) {
    auto lease = client->ask(ask_for(pb::KIND_BACKED, kHandedBytes));
    if (!lease) return 1;
    const std::vector<void*> mapped = map_all(*lease);
    for (size_t i = 0; i < mapped.size(); ++i) {
      if (is_new) fault_in(mapped[i], lease->chunks[i].bytes, MADV_POPULATE_WRITE);
      munmap(mapped[i], lease->chunks[i].bytes);
    }
    if (!client->release(*lease)) return 2;
    hands.second.ring();
  }
  return 0;
}

struct HandoverTimes {
  std::vector<double> granted{};
  std::vector<double> mapped{};
  std::vector<double> faulted{};
};

void take_over(LeaseClient& client, const Hands& hands, bool is_to_be_used, HandoverTimes& times) {
  hands.first.ring();
  REQUIRE(hands.second.wait());
  const double began = seconds_now();
  auto given = client.ask(ask_for(pb::KIND_BACKED, kHandedBytes));
  REQUIRE(given);
  times.granted.push_back(seconds_now() - began);
  const std::vector<void*> at = map_all(*given);
  times.mapped.push_back(seconds_now() - began);
  for (size_t k = 0; is_to_be_used && k < at.size(); ++k) fault_in(at[k], given->chunks[k].bytes, MADV_POPULATE_READ);
  times.faulted.push_back(seconds_now() - began);
  for (size_t k = 0; k < at.size(); ++k) munmap(at[k], given->chunks[k].bytes);
  REQUIRE(client.release(*given));
}

void time_handovers(const std::string& where, bool is_pinned) {
  const OnOneCpu place(is_pinned);
  const ArbiterProcess arbiter("2G");
  const Hands hands;
  const pid_t first = start_process([&] { return hold_first(arbiter, hands); });
  const auto second = arbiter.connected();
  const int handovers = rounds("MESH_HANDOVERS", kFewHandovers);
  HandoverTimes only_mapped;
  HandoverTimes used;
  for (int i = 0; i < 10 * handovers; ++i) take_over(*second, hands, false, only_mapped);
  for (int i = 0; i < handovers; ++i) take_over(*second, hands, true, used);
  *hands.is_over = true;
  hands.first.ring();
  CHECK(exit_code_of(first) == 0);
  print_times("asked and granted, " + where, only_mapped.granted);
  print_times("  and mapped", only_mapped.mapped);
  print_times("  and mapped, after others used the caches", used.mapped);
  print_times("  and faulted in", used.faulted);
}

double seconds_to_make_anew() {
  const double began = seconds_now();
  const io::OwnedFd fd(memfd_create("anew", MFD_CLOEXEC));
  REQUIRE(ftruncate(fd.get(), kHandedBytes) == 0);
  void* const at = mmap(nullptr, kHandedBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  REQUIRE(at != MAP_FAILED);
  fault_in(at, kHandedBytes, MADV_POPULATE_WRITE);
  const double took = seconds_now() - began;
  munmap(at, kHandedBytes);
  return took;
}

TEST_CASE("how long 1 GiB takes from one process to another") {
  time_handovers("on the arbiter's CPU", true);
  const int handovers = rounds("MESH_HANDOVERS", kFewHandovers);
  if (handovers <= kFewHandovers) return;  // the rest takes seconds
  time_handovers("anywhere", false);
  std::vector<double> anew;
  for (int i = 0; i < handovers; ++i) anew.push_back(seconds_to_make_anew());
  print_times("made anew, without an arbiter, and faulted in", anew);
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
constexpr uint64_t kOwnBytes = 32 * kMi;  // what each reader has beside them
constexpr int kReaders = 8;

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
  const auto own = client->ask(ask_for(pb::KIND_BACKED, kOwnBytes), 30'000);
  if (!own) return 4;
  for (const HeldChunk& chunk : own->chunks) {
    if (mmap(nullptr, chunk.bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, chunk.fd.get(), 0) == MAP_FAILED)
      return 5;
  }
  ++readers.mapped;
  while (readers.mapped < kReaders) usleep(500);
  readers.pss_bytes += shared_pss_bytes();
  ++readers.measured;
  while (readers.measured < kReaders) usleep(500);
  return 0;
}

TEST_CASE("weights that eight processes read are loaded once and held once, and nobody writes to them any more") {
  const ArbiterProcess arbiter("1G");
  const SharedValue<Readers> readers;
  std::vector<pid_t> reading;
  for (int i = 0; i < kReaders; ++i) reading.push_back(start_process([&] { return read_weights(arbiter, *readers); }));
  for (const pid_t pid : reading) CHECK(exit_code_of(pid) == 0);
  constexpr uint64_t kAllBytes = kWeightBytes + kReaders * kOwnBytes;
  MESSAGE("shared memory by proportion: " << readers->pss_bytes.load() / kMi << " MiB, " << kAllBytes / kMi
                                          << " if held once");
  CHECK(readers->writers == 1);
  CHECK(readers->writable == 0);
  CHECK(readers->wrong == 0);
  CHECK(readers->pss_bytes <= kAllBytes + kAllBytes / 50);
  CHECK(arbiter.comes_to_say("segments", "\"state\":\"idle\""));
}

}  // namespace
}  // namespace mesh::arbiter
