// What a grant costs, and an arbiter that nobody asks. Figures are printed, not judged, since they are the machine's as
// well; MESH_GRANTS says how many grants, MESH_REST_MS how long it is watched.

#include <doctest/doctest.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "tests/arbiter/arbiter_process.h"

namespace mesh::arbiter {
namespace {

struct Load {
  std::string what;
  pb::Kind kind;
  int clients;
  int leases;      // that each has in the end
  bool is_pinned;  // clients, arbiter and keeper are on one CPU
};

// Nanoseconds on a CPU: of the thread that decides, and of all.
struct CpuTime {
  double loop = 0;
  double all = 0;

  CpuTime operator-(const CpuTime& other) const { return {loop - other.loop, all - other.all}; }
  void operator+=(const CpuTime& other) { loop += other.loop, all += other.all; }
};

CpuTime cpu_time(pid_t pid) {
  CpuTime time;
  for (const auto& thread : std::filesystem::directory_iterator("/proc/" + std::to_string(pid) + "/task")) {
    double ns = 0;
    std::ifstream(thread.path() / "schedstat") >> ns;
    time.all += ns;
    if (thread.path().filename() == std::to_string(pid)) time.loop = ns;
  }
  return time;
}

constexpr size_t kTimesMax = 32'768;

// Round by round all ask, one after the other in a ring, then all release.
struct Rounds {
  explicit Rounds(int clients) : next(static_cast<size_t>(clients)), turn(next.size()) {}

  std::vector<Bell> next;  // whose next half of a round begins
  std::vector<Bell> turn;  // who may ask
  Bell done;               // who has done his half
  struct Shared {
    std::atomic<bool> is_over;
    std::atomic<bool> is_timed;
    std::atomic<size_t> count;
    std::array<double, kTimesMax> seconds;
  };
  SharedValue<Shared> shared;
};

int ask_and_release(const ArbiterProcess& arbiter, const Load& load, size_t number, Rounds& rounds) {
  const auto client = arbiter.connected();
  Rounds::Shared& shared = *rounds.shared;
  std::vector<HeldLease> held;
  for (;;) {
    rounds.done.ring();
    if (!rounds.next[number].wait() || shared.is_over) return 0;
    for (int i = 0; i < load.leases; ++i) {
      if (!rounds.turn[number].wait()) return 1;
      const double began = seconds_now();
      auto lease = client->ask(ask_for(load.kind, 2 * kMi));
      const double took = seconds_now() - began;
      if (!lease) return 2;
      held.push_back(std::move(*lease));
      if (shared.is_timed && shared.count < kTimesMax) shared.seconds[shared.count++] = took;
      rounds.turn[(number + 1) % rounds.turn.size()].ring();
    }
    rounds.done.ring();
    if (!rounds.next[number].wait() || shared.is_over) return 0;
    for (HeldLease& lease : held) {
      if (!client->release(lease)) return 3;
    }
    held.clear();
  }
}

void wait_for_all(const Rounds& rounds) {
  for (size_t i = 0; i < rounds.next.size(); ++i) REQUIRE(rounds.done.wait());
}

void half_a_round(const Rounds& rounds) {
  for (const Bell& each : rounds.next) each.ring();
  wait_for_all(rounds);
}

// Whoever asks first after a pause finds nothing in the caches.
void print_grants(const Load& load, const Rounds& rounds, const CpuTime& used) {
  const auto per_round = static_cast<size_t>(load.clients * load.leases);
  const size_t count = rounds.shared->count;
  std::vector<double> first;
  std::vector<double> others;
  for (size_t i = 0; i < count; ++i) (i % per_round == 0 ? first : others).push_back(rounds.shared->seconds[i]);
  const double share = 1e-3 / static_cast<double>(std::max<size_t>(count, 1));
  print_times(load.what, others);
  print_times("  the first after a pause", first);
  MESSAGE("  on a CPU, per grant: " << used.loop * share << " us where it decides, " << used.all * share
                                    << " us in all of the arbiter");
}

void time_grants(const Load& load, int grants) {
  Rounds rounds(load.clients);
  std::vector<pid_t> clients;
  auto place = std::make_unique<OnOneCpu>(load.is_pinned);
  const ArbiterProcess arbiter("4G");
  for (size_t i = 0; i < rounds.next.size(); ++i)
    clients.push_back(start_process([&, i] { return ask_and_release(arbiter, load, i, rounds); }));
  place.reset();
  wait_for_all(rounds);
  rounds.turn.front().ring();
  const int repeats = std::max(1, grants / (load.clients * load.leases));
  CpuTime used;
  for (int i = 0; i <= repeats; ++i) {  // the first makes the chunks, and is not counted
    rounds.shared->is_timed = i > 0;
    const CpuTime before = cpu_time(arbiter.pid());
    half_a_round(rounds);
    if (i > 0) used += cpu_time(arbiter.pid()) - before;
    half_a_round(rounds);
    REQUIRE(arbiter.comes_to_say("gpus", "\"leased_bytes\":0"));
  }
  rounds.shared->is_over = true;
  for (const Bell& each : rounds.next) each.ring();
  for (const pid_t client : clients) CHECK(exit_code_of(client) == 0);
  print_grants(load, rounds, used);
}

TEST_CASE("how long a grant takes") {
  const int grants = rounds("MESH_GRANTS", 256);
  time_grants({"accounted, 1 client on the arbiter's CPU", pb::KIND_ACCOUNTED, 1, 64, true}, grants);
  time_grants({"accounted, 16 clients on the arbiter's CPU", pb::KIND_ACCOUNTED, 16, 4, true}, grants);
  time_grants({"accounted, 1 client anywhere", pb::KIND_ACCOUNTED, 1, 64, false}, grants);
  time_grants({"accounted, 16 clients anywhere", pb::KIND_ACCOUNTED, 16, 4, false}, grants);
  time_grants({"backed, 2 MiB, 1 client on the arbiter's CPU", pb::KIND_BACKED, 1, 64, true}, grants);
  time_grants({"backed, 2 MiB, 16 clients on the arbiter's CPU", pb::KIND_BACKED, 16, 4, true}, grants);
  time_grants({"backed, 2 MiB, 1 client anywhere", pb::KIND_BACKED, 1, 64, false}, grants);
  time_grants({"backed, 2 MiB, 16 clients anywhere", pb::KIND_BACKED, 16, 4, false}, grants);
}

uint64_t resident_bytes(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/status");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("VmRSS:")) return std::stoull(line.substr(6)) * 1024;
  }
  return 0;
}

void print_rest(const ArbiterProcess& arbiter, const std::string& what) {
  const int rest_ms = rounds("MESH_REST_MS", 500);
  const CpuTime before = cpu_time(arbiter.pid());
  usleep(static_cast<useconds_t>(rest_ms) * 1000);
  const CpuTime used = cpu_time(arbiter.pid()) - before;
  MESSAGE(what << ": " << resident_bytes(arbiter.pid()) / kMi << " MiB RSS and "
               << resident_bytes(arbiter.keeper()) / kMi << " the keeper's, " << used.all / rest_ms * 1e-4
               << " % of a CPU, " << used.loop / rest_ms * 1e-4 << " % where it decides");
}

TEST_CASE("what an arbiter costs that nobody asks") {
  const ArbiterProcess arbiter("4G");
  print_rest(arbiter, "at rest");
  const auto client = arbiter.connected();
  std::vector<HeldLease> held;
  for (int i = 0; i < 64; ++i) {
    auto lease = client->ask(ask_for(i % 2 == 0 ? pb::KIND_ACCOUNTED : pb::KIND_BACKED, 2 * kMi));
    REQUIRE(lease);
    held.push_back(std::move(*lease));
  }
  print_rest(arbiter, "with 64 leases");
}

}  // namespace
}  // namespace mesh::arbiter
