#include "common/cache/purges.h"

#include <doctest/doctest.h>
#include <pthread.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <thread>
#include <vector>

namespace mesh::cache {
namespace {

struct SharedBook {
  std::vector<uint64_t> words = std::vector<uint64_t>(Purges::words_for(1024));
  Purges one{words};
  Purges other{words};
};

Names names_of(uint64_t service, std::span<const uint64_t> tags = {}) { return {service, 2, 3, tags}; }

TEST_CASE("what one process purges is wrong for all that share the book, and for nobody else") {
  SharedBook book;
  const Purges stranger;
  const uint64_t tags[] = {50, 51};
  const uint64_t since = book.one.position();
  CHECK(book.other.purge(51) == since + 1);
  CHECK_FALSE(book.one.holds(since, names_of(1, tags)));
  CHECK(book.one.holds(since, names_of(1)));
  CHECK(book.one.holds(book.one.position(), names_of(1, tags)));
  CHECK(stranger.holds(since, names_of(1, tags)));
  const uint64_t later = book.other.position();
  book.one.purge_all();
  CHECK_FALSE(book.other.holds(later, names_of(1)));
  CHECK(book.other.holds(book.other.position(), names_of(1, tags)));
}

TEST_CASE("a purge before a mark hits what began before it and spares what began behind it") {
  SharedBook book;
  const uint64_t before = book.one.position();
  const uint64_t mark = book.one.mark();
  const uint64_t behind = book.other.position();
  CHECK(behind == mark);
  book.other.purge(77);
  book.one.purge_before(mark, 1);
  CHECK_FALSE(book.other.holds(before, names_of(1)));
  CHECK(book.other.holds(behind, names_of(1)));
  book.one.purge_before(before, 1);  // an older mark takes nothing back
  CHECK_FALSE(book.other.holds(before, names_of(1)));
}

TEST_CASE("a purge that was cut off half way hits at most what its name has") {
  SharedBook book;
  const uint64_t since = book.one.position();
  book.words[Purges::words_for(0) + 1] = since + 1;  // its first step
  CHECK(book.other.holds(since, names_of(1)));
  book.other.purge(77);
  CHECK_FALSE(book.other.holds(since, names_of(1)));
  CHECK(book.other.holds(since, names_of(5)));
  CHECK(book.other.holds(book.other.position(), names_of(1)));
}

TEST_CASE("all positions that several threads are given are different, and none is lost") {
  SharedBook book;
  constexpr uint64_t kEach = 20'000;
  std::vector<std::vector<uint64_t>> given(4);
  {
    std::vector<std::jthread> threads;
    for (size_t i = 0; i < given.size(); ++i) {
      threads.emplace_back([&, i] {
        Purges purges(book.words);
        for (uint64_t n = 0; n < kEach; ++n) given[i].push_back(n % 8 == 0 ? purges.mark() : purges.purge(n % 100));
      });
    }
  }
  std::vector<bool> seen(given.size() * kEach + 1);
  for (const auto& positions : given) {
    for (const uint64_t position : positions) {
      REQUIRE(position < seen.size());
      REQUIRE_FALSE(seen[position]);
      seen[position] = true;
    }
  }
  CHECK(book.one.position() == given.size() * kEach);
}

// What another process may do while this one is in the middle of a purge: a signal handler does it.
struct Intruder {
  static constexpr uint64_t kName = 9;
  SharedBook book;
  std::atomic<uint64_t> truth{0};  // at the agent
  std::atomic<uint64_t> tier{0};   // what is kept of it: since << 32 | value
  std::atomic<uint64_t> visits{0};

  bool is_held(uint64_t entry) { return book.other.holds(entry >> 32, names_of(kName)); }
  // A fetch that begins now, and finds what is kept, or else asks the agent.
  void fetch() {
    const uint64_t since = book.other.position();
    const uint64_t entry = tier;
    tier = since << 32 | (is_held(entry) ? entry & 0xFFFFFFFF : truth.load());
  }
  void visit() {
    const uint64_t turn = ++visits;
    if (turn % 2 == 0) book.other.purge(100);
    fetch();
    if (turn % 3 == 0) book.other.purge(101);
  }
};
Intruder* intruder = nullptr;

TEST_CASE("nothing that was found before a purge is held under a position behind it, wherever the purge is cut in") {
  Intruder other;
  intruder = &other;
  const auto before = std::signal(SIGUSR1, [](int) { intruder->visit(); });
  const pthread_t purger = pthread_self();
  std::atomic<bool> is_over{false};
  uint64_t wrong = 0;
  {
    std::jthread alarm([&] {
      while (!is_over) {
        pthread_kill(purger, SIGUSR1);
        std::this_thread::sleep_for(std::chrono::microseconds(10));
      }
    });
    for (uint64_t n = 1; other.visits < 5'000; ++n) {
      other.fetch();
      other.truth = n;
      other.book.one.purge(Intruder::kName);
      const uint64_t kept = other.tier;
      if (other.is_held(kept) && (kept & 0xFFFFFFFF) < n) ++wrong;
    }
    is_over = true;
  }
  std::signal(SIGUSR1, before);
  CHECK(wrong == 0);
}

}  // namespace
}  // namespace mesh::cache
