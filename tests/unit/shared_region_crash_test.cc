// Processes that share a region, killed and stopped at any moment, also in the middle of a write. The others must not
// notice. MESH_KILLS says how many are killed.

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <csignal>
#include <cstdlib>
#include <memory>
#include <string>

#include "common/base/limits.h"
#include "common/cache/shared_tier.h"
#include "sidecar/io/shared_region.h"
#include "tests/unit/self_telling.h"
#include "tests/unit/shared_folder.h"

namespace mesh::io {
namespace {

using cache::key_of;
using cache::Purges;
using cache::SharedTier;

constexpr char kChildPath[] = "MESH_TEST_SHARED_PATH";
constexpr char kChildNumber[] = "MESH_TEST_SHARED_CHILD";
constexpr size_t kRegionBytes = 8 * limits::MiB;
constexpr uint64_t kKeys = 6'000;

Instant now() {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return Instant(Duration(time.tv_sec * 1'000'000'000 + time.tv_nsec));
}

// What the children tell, in a file of its own that all map. A histogram of powers of two of nanoseconds.
struct Tally {
  std::atomic<uint64_t> finds;
  std::atomic<uint64_t> hits;
  std::atomic<uint64_t> broken;
  std::atomic<uint64_t> torn;
  std::atomic<uint64_t> overtaken;
  std::atomic<uint64_t> carried_over;
  std::atomic<uint64_t> wrong_books;
  std::array<std::atomic<uint64_t>, 64> find_ns;
  std::array<std::atomic<uint64_t>, 64> put_ns;
};

Tally& open_tally(const std::string& path) {
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  REQUIRE(ftruncate(fd, sizeof(Tally)) == 0);
  void* const at = mmap(nullptr, sizeof(Tally), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  REQUIRE(at != MAP_FAILED);
  close(fd);
  return *static_cast<Tally*>(at);
}

void note(std::array<std::atomic<uint64_t>, 64>& histogram, Duration took) {
  ++histogram[static_cast<size_t>(std::bit_width(static_cast<uint64_t>(std::max<int64_t>(took.count(), 0))))];
}

// An upper bound.
uint64_t percentile_ns(const std::array<std::atomic<uint64_t>, 64>& histogram, double part) {
  uint64_t all = 0;
  for (const auto& count : histogram) all += count;
  uint64_t below = 0;
  for (size_t i = 0; i < histogram.size(); ++i) {
    below += histogram[i];
    if (static_cast<double>(below) >= part * static_cast<double>(all)) return uint64_t{1} << i;
  }
  return 0;
}

struct Sharer {
  std::unique_ptr<SharedRegion> region;
  std::unique_ptr<SharedTier> tier;
  explicit Sharer(const std::string& path) {
    auto opened = SharedRegion::open(path + "/region", kRegionBytes);
    REQUIRE(opened.has_value());
    region = std::move(*opened);
    auto attached = SharedTier::attach(region->memory(), *region, 1);
    REQUIRE(attached.has_value());
    tier = std::make_unique<SharedTier>(std::move(*attached));
  }
};

// Skewed, so that some are asked for again and again.
uint64_t pick(Prng& prng) { return prng.below(1 + prng.below(kKeys)); }

void find_one(SharedTier& tier, uint64_t number, Tally& tally) {
  const Instant before = now();
  const auto found = tier.find(key_of(number), before);
  const Instant after = now();
  note(tally.find_ns, after - before);
  ++tally.finds;
  if (!found) return;
  ++tally.hits;
  if (!is_whole(*found, number)) ++tally.broken;
}

TEST_CASE("shares a region until it is killed" * doctest::skip()) {
  const char* path = std::getenv(kChildPath);
  const char* child = std::getenv(kChildNumber);
  if (path == nullptr || child == nullptr) return;
  Sharer sharer(path);
  SharedTier& tier = *sharer.tier;
  Tally& tally = open_tally(std::string(path) + "/tally");
  Prng prng(std::strtoull(child, nullptr, 10));
  Purges purges(tier.purge_words());
  auto witness = tier.witness(prng.below(20));
  cache::SharedCounts told;
  for (uint64_t turn = 0;; ++turn) {
    for (int i = 0; i < 4; ++i) find_one(tier, pick(prng), tally);
    const uint64_t number = pick(prng);
    const auto kept = cache::self_telling(number, turn, 64 + prng.below(prng.below(20) == 0 ? 30'000 : 2'000), now());
    const Instant before = now();
    tier.put(kept, 0, before);
    note(tally.put_ns, now() - before);
    if (turn % 16 == 0) {
      const uint64_t since = purges.position();
      purges.purge(1'000'000 + prng.below(1000));
      const uint64_t tags[] = {number};
      if (purges.position() <= since || !purges.holds(purges.position(), {1, 2, 3, tags})) ++tally.wrong_books;
      if (witness) witness->set_known(turn);
    }
    const cache::SharedCounts& counts = tier.counts();
    tally.torn += counts.torn - told.torn;
    tally.overtaken += counts.overtaken - told.overtaken;
    tally.carried_over += counts.carried_over - told.carried_over;
    told = counts;
  }
}

// Starts this program anew, for a child of a process with threads must not do more than that.
pid_t start_child(const std::string& path, uint64_t number) {
  const std::string where = std::string(kChildPath) + "=" + path;
  const std::string which = std::string(kChildNumber) + "=" + std::to_string(number);
  const char* const arguments[] = {"shared_test", "--no-skip", "--test-case=shares a region until it is killed",
                                   nullptr};
  const char* const environment[] = {where.c_str(), which.c_str(), nullptr};
  const pid_t child = fork();
  if (child != 0) return child;
  prctl(PR_SET_PDEATHSIG, SIGKILL);  // not to outlive a test that failed
  const int nowhere = open("/dev/null", O_WRONLY);
  dup2(nowhere, STDOUT_FILENO);
  execve("/proc/self/exe", const_cast<char* const*>(arguments), const_cast<char* const*>(environment));
  _exit(127);
}

TEST_CASE("processes that are killed or stopped at any moment leave no torn value and keep nobody waiting") {
  const SharedFolder folder;
  const char* const asked = std::getenv("MESH_KILLS");
  const uint64_t kills = asked != nullptr ? std::strtoull(asked, nullptr, 10) : 60;
  Tally& tally = open_tally(folder.path + "/tally");
  Sharer own(folder.path);
  Tally& own_tally = open_tally(folder.path + "/own_tally");
  Prng prng(static_cast<uint64_t>(getpid()));
  std::array<pid_t, 4> children{};
  uint64_t started = 0;
  for (pid_t& child : children) child = start_child(folder.path, ++started);
  const auto look = [&](Duration time) {
    for (const Instant end = now() + time; now() < end;) {
      for (int i = 0; i < 50; ++i) find_one(*own.tier, pick(prng), own_tally);
      own.tier->put(cache::self_telling(pick(prng), 0, 500, now()), 0, now());
      usleep(200);
    }
  };
  look(milliseconds(300));
  uint64_t stops = 0;
  uint64_t dead = 0;
  uint64_t rounds_without_hits = 0;
  while (dead < kills) {
    // One is stopped for so long that the ring goes round, and meanwhile another is killed.
    pid_t& stopped = children[prng.below(children.size())];
    pid_t& killed = children[prng.below(children.size())];
    stops += kill(stopped, SIGSTOP) == 0 ? 1 : 0;
    const uint64_t hits_before = own_tally.hits;
    look(microseconds(static_cast<int64_t>(prng.below(40'000))));
    REQUIRE(kill(killed, SIGKILL) == 0);
    look(milliseconds(5));
    rounds_without_hits += own_tally.hits == hits_before ? 1 : 0;
    kill(stopped, SIGCONT);
    int status = 0;
    REQUIRE(waitpid(killed, &status, 0) == killed);
    CHECK(WIFSIGNALED(status));  // and none ended by itself before
    CHECK(WTERMSIG(status) == SIGKILL);
    ++dead;
    killed = start_child(folder.path, ++started);
    look(microseconds(static_cast<int64_t>(10'000 + prng.below(20'000))));
  }
  const uint64_t finds_before = tally.finds;
  look(milliseconds(300));
  CHECK(tally.finds > finds_before);
  for (const pid_t child : children) {
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
  }
  CHECK(tally.broken == 0);
  CHECK(own_tally.broken == 0);
  CHECK(tally.wrong_books == 0);
  CHECK(rounds_without_hits == 0);
  CHECK(tally.hits > 1000);
  // Whoever comes last finds what the dead left.
  Sharer last(folder.path);
  uint64_t found = 0;
  for (uint64_t number = 0; number < kKeys; ++number) found += last.tier->find(key_of(number), now()) ? 1 : 0;
  CHECK(found > 100);
  MESSAGE(dead, " killed, ", stops, " stopped; ", tally.hits.load(), " hits of ", tally.finds.load(), " finds, ",
          tally.torn.load() + own.tier->counts().torn, " torn, ", tally.overtaken.load(), " overtaken, ",
          tally.carried_over.load(), " carried over");
  MESSAGE("the one that was spared: find p50 < ", percentile_ns(own_tally.find_ns, 0.5), " ns, p99 < ",
          percentile_ns(own_tally.find_ns, 0.99), " ns, p99.9 < ", percentile_ns(own_tally.find_ns, 0.999),
          " ns; the others: find p99 < ", percentile_ns(tally.find_ns, 0.99), " ns, put p50 < ",
          percentile_ns(tally.put_ns, 0.5), " ns, p99 < ", percentile_ns(tally.put_ns, 0.99), " ns");
}

}  // namespace
}  // namespace mesh::io
