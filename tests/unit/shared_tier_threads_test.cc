// Several writers and readers in one region at once. Built with -Db_sanitize=thread it also says that no word is read
// and written without telling so.

#include <doctest/doctest.h>

#include <atomic>
#include <thread>
#include <vector>

#include "common/base/limits.h"
#include "tests/unit/self_telling.h"
#include "tests/unit/shared_memory.h"

namespace mesh::cache {
namespace {

struct Sum {
  std::atomic<uint64_t> found{0};
  std::atomic<uint64_t> broken{0};
  std::atomic<uint64_t> torn{0};
  std::atomic<uint64_t> overtaken{0};
};

// Puts ever later versions of all numbers, and looks for all.
void work(Memory& memory, uint64_t seed, uint64_t rounds, uint64_t numbers, Sum& sum) {
  SharedTier tier = memory.attach();
  Prng prng(seed);
  for (uint64_t round = 0; round < rounds; ++round) {
    const size_t bytes = 64 + prng.below(prng.below(8) == 0 ? 20'000 : 500);
    tier.put(self_telling(prng.below(numbers), round, bytes), 0, kNow);
    if (prng.below(100) == 0) tier.erase(key_of(prng.below(numbers)));
    for (int i = 0; i < 3; ++i) {
      const uint64_t number = prng.below(numbers);
      const auto found = tier.find(key_of(number), kNow);
      if (!found) continue;
      ++sum.found;
      if (!is_whole(*found, number)) ++sum.broken;
    }
  }
  sum.torn += tier.counts().torn;
  sum.overtaken += tier.counts().overtaken;
}

TEST_CASE("four that write and read at once never see anything but whole replies") {
  for (const uint64_t numbers : {uint64_t{3}, uint64_t{5'000}}) {
    Memory memory(4 * limits::MiB);
    Sum sum;
    {
      std::vector<std::jthread> threads;
      for (uint64_t seed = 1; seed <= 4; ++seed)
        threads.emplace_back([&, seed] { work(memory, seed, 15'000, numbers, sum); });
    }
    CHECK(sum.found > 10'000);
    CHECK(sum.broken == 0);
    // A thread that had to wait long enough wrote over entries of others, and nothing else makes any torn.
    CHECK(sum.torn <= 300 * sum.overtaken);
    MESSAGE(sum.found.load(), " found, ", sum.torn.load(), " torn, ", sum.overtaken.load(), " overtaken");
    CHECK(memory.attach().entries() <= numbers + 8);
  }
}

// The ring has three segments, so that all of them take each other's all the time.
TEST_CASE("also where there is hardly any memory and everybody takes everybody's segments") {
  Memory memory(4 * limits::MiB);
  memory.bytes_allowed = SharedLayout(4 * limits::MiB).segment_at(3);
  Sum sum;
  {
    std::vector<std::jthread> threads;
    for (uint64_t seed = 1; seed <= 4; ++seed)
      threads.emplace_back([&, seed] { work(memory, seed, 15'000, 200, sum); });
  }
  CHECK(sum.found > 1'000);
  CHECK(sum.broken == 0);
  MESSAGE(sum.found.load(), " found, ", sum.torn.load(), " torn, ", sum.overtaken.load(), " overtaken");
}

}  // namespace
}  // namespace mesh::cache
