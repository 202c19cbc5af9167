// What a store of replies still knows after kill -9, and what it must not know any more.

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <string>
#include <vector>

#include "common/base/prng.h"
#include "tests/unit/reply_shelf.h"

namespace mesh::io {
namespace {

constexpr char kChildStore[] = "MESH_TEST_REPLY_STORE";
constexpr char kChildFirst[] = "MESH_TEST_REPLY_FIRST";
constexpr int kChildPipe = 3;
constexpr uint64_t kBudget = 2ULL << 30;
constexpr uint64_t kGroup = 8;  // replies with one name
constexpr uint64_t kKeptEvery = 5;

std::string value_of(uint64_t number) {
  const uint64_t size = number % kGroup == 3 ? 70'000 : number * 7919 % 3000;
  return std::to_string(number) + std::string(size, static_cast<char>('a' + number % 26));
}

// Each turn a group is put and the one before it erased, but for a few that stay.
TEST_CASE("puts and erases replies until it is killed" * doctest::skip()) {
  const char* path = std::getenv(kChildStore);
  const char* first = std::getenv(kChildFirst);
  if (path == nullptr || first == nullptr) return;
  ReplyShelf shelf(path, kBudget);
  uint64_t group = std::strtoull(first, nullptr, 10);
  const auto turn = [&] {
    ++group;
    for (uint64_t i = 0; i < kGroup; ++i) shelf.put(group * kGroup + i, value_of(group * kGroup + i), {group});
    const uint64_t before = group - 1;
    shelf.erase(before, {before % kKeptEvery == 0 ? 1'000'000'000'000 : before});
  };
  shelf.on_answer = [&](uint64_t ticket) {
    if (write(kChildPipe, &ticket, sizeof(ticket)) != sizeof(ticket)) _exit(1);
    turn();
  };
  turn();
  shelf.loop.run();
}

// Starts this program anew, for a child of a process with threads must not do more than that. Gives back its id.
pid_t start_child(const std::string& path, uint64_t first, int write_end) {
  const std::string store = std::string(kChildStore) + "=" + path;
  const std::string number = std::string(kChildFirst) + "=" + std::to_string(first);
  const char* const arguments[] = {"io_test", "--no-skip", "--test-case=puts and erases replies until it is killed",
                                   nullptr};
  const char* const environment[] = {store.c_str(), number.c_str(), nullptr};
  const pid_t child = fork();
  if (child != 0) return child;
  if (dup2(write_end, kChildPipe) == write_end) fcntl(write_end, F_SETFD, 0);
  const int nowhere = open("/dev/null", O_WRONLY);
  dup2(nowhere, STDOUT_FILENO);
  execve("/proc/self/exe", const_cast<char* const*>(arguments), const_cast<char* const*>(environment));
  _exit(127);
}

TEST_CASE("what was reported as erased is gone after kill -9, what was there before stays, round after round") {
  const Directory directory;
  const char* wanted = std::getenv("MESH_KILLS");
  const uint64_t kills = wanted != nullptr ? std::strtoull(wanted, nullptr, 10) : 60;
  Prng prng(static_cast<uint64_t>(getpid()));
  std::vector<uint64_t> kept;
  size_t erased = 0;
  for (uint64_t round = 0; round < kills; ++round) {
    CAPTURE(round);
    int ends[2];
    REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
    const pid_t child = start_child(directory.path, (round + 1) * 1'000'000, ends[1]);
    REQUIRE(child > 0);
    close(ends[1]);
    std::vector<uint64_t> reported;
    uint64_t ticket = 0;
    while (read(ends[0], &ticket, sizeof(ticket)) == sizeof(ticket)) {
      // Only once it is at work, then at any moment of a commit.
      if (reported.size() == 5) {
        usleep(static_cast<useconds_t>(prng.below(10'000)));
        kill(child, SIGKILL);
      }
      reported.push_back(ticket);
    }
    close(ends[0]);
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK(WIFSIGNALED(status));
    REQUIRE(reported.size() > 5);

    ReplyShelf shelf(directory.path, kBudget);
    REQUIRE(shelf.stats().is_serving);
    REQUIRE(shelf.stats().begun_anew == 0);
    for (const uint64_t group : reported) {
      const bool is_kept = group % kKeptEvery == 0 && group % 1'000'000 != 0;
      if (is_kept) kept.push_back(group);
      erased += is_kept ? 0 : kGroup;
      for (uint64_t i = 0; i < kGroup; ++i) {
        const uint64_t number = group * kGroup + i;
        REQUIRE((shelf.load_now(number) == (is_kept ? value_of(number) : "-")));
      }
    }
    // The last ones may be there or not, but whole.
    for (uint64_t number = (reported.back() + 1) * kGroup; number < (reported.back() + 3) * kGroup; ++number) {
      const std::string loaded = shelf.load_now(number);
      REQUIRE((loaded == "-" || loaded == value_of(number)));
    }
    CHECK(shelf.stats().damaged == 0);
  }
  ReplyShelf shelf(directory.path, kBudget);
  for (const uint64_t group : kept) {
    for (uint64_t i = 0; i < kGroup; ++i) REQUIRE((shelf.load_now(group * kGroup + i) == value_of(group * kGroup + i)));
  }
  MESSAGE(kills, " kills, ", erased, " erased, ", kept.size() * kGroup, " kept");
}

}  // namespace
}  // namespace mesh::io
