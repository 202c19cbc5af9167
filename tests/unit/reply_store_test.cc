// Replies on a real disk: what is found again, what goes first, and how much there may be.

#include <doctest/doctest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "common/base/prng.h"
#include "tests/unit/reply_shelf.h"

namespace mesh::io {
namespace {

namespace fs = std::filesystem;

std::vector<fs::path> value_files(const std::string& path) {
  std::vector<fs::path> found;
  if (!fs::exists(path + "/values")) return found;
  for (const auto& entry : fs::recursive_directory_iterator(path + "/values")) {
    if (entry.is_regular_file()) found.push_back(entry.path());
  }
  return found;
}

uint64_t bytes_on_disk(const std::string& path) {
  uint64_t bytes = 0;
  for (const auto& entry : fs::recursive_directory_iterator(path)) {
    struct stat info {};
    if (entry.is_regular_file() && stat(entry.path().c_str(), &info) == 0) bytes += info.st_blocks * 512;
  }
  return bytes;
}

TEST_CASE("what was put is loaded again, small and large and empty, also by the next process") {
  const Directory directory;
  const std::string path = directory.path + "/some/where";
  const std::string large(3'000'000, 'L');
  const std::string edge(kSmallBytesMax, 'e');
  {
    ReplyShelf shelf(path);
    shelf.put(1, "small");
    shelf.put(2, large);
    shelf.put(3, "");
    shelf.put(4, edge);
    shelf.put(5, edge + "e");
    shelf.loop.run();
    CHECK((shelf.load_now(2) == large));
    CHECK(shelf.stats().entries == 5);
    CHECK(shelf.stats().puts == 5);
    CHECK(shelf.stats().bytes > large.size());
    CHECK(value_files(path).size() == 2);
  }
  ReplyShelf shelf(path);
  CHECK(shelf.stats().entries == 5);
  CHECK((shelf.load_now(1) == "small"));
  CHECK((shelf.load_now(2) == large));
  CHECK(shelf.load_now(3).empty());
  CHECK((shelf.load_now(4) == edge));
  CHECK((shelf.load_now(5) == edge + "e"));
  CHECK((shelf.load_now(6) == "-"));
  CHECK(shelf.stats().hits == 5);
  CHECK(shelf.stats().misses == 1);
  CHECK(shelf.stats().last_error.empty());
  CHECK(value_files(path).size() == 2);
}

TEST_CASE("what was asked before the store is destroyed is on disk, and nobody is told") {
  const Directory directory;
  {
    ReplyShelf shelf(directory.path);
    shelf.put(1, "first", {7});
    shelf.put(2, "second");
    shelf.erase(9, {7});
    shelf.store.reset();
    shelf.loop.run();
    CHECK(shelf.erased.empty());
  }
  ReplyShelf shelf(directory.path);
  CHECK((shelf.load_now(1) == "-"));
  CHECK((shelf.load_now(2) == "second"));
}

TEST_CASE("a store may be destroyed in its own answer") {
  const Directory directory;
  ReplyShelf shelf(directory.path);
  shelf.put(1, "value", {7});
  shelf.load(1);
  shelf.load(2);
  shelf.erase(9, {7});
  shelf.erase(10, {7});
  shelf.on_answer = [&](uint64_t) { shelf.store.reset(); };
  shelf.loop.run();
  CHECK(shelf.erased.size() + shelf.loaded.size() == 1);
}

TEST_CASE("nobody else can read the store, and one that others could write to is closed to them") {
  const Directory directory;
  const std::string path = directory.path + "/store";
  fs::create_directory(path);
  REQUIRE(chmod(path.c_str(), 0777) == 0);
  ReplyShelf shelf(path);
  shelf.put_now(1, std::string(100'000, 'x'));
  const auto mode_of = [](const fs::path& name) {
    struct stat info {};
    REQUIRE(stat(name.c_str(), &info) == 0);
    return info.st_mode & 0777;
  };
  CHECK(mode_of(path) == 0700);
  CHECK(mode_of(path + "/data.mdb") == 0600);
  CHECK(mode_of(path + "/values") == 0700);
  CHECK(mode_of(value_files(path).at(0)) == 0600);
}

TEST_CASE("a store of another user is not served from") {
  if (geteuid() != 0) return;
  const Directory directory;
  const std::string path = directory.path + "/store";
  fs::create_directory(path);
  REQUIRE(chown(path.c_str(), 12345, 12345) == 0);
  ReplyShelf shelf(path);
  CHECK_FALSE(shelf.stats().is_serving);
  CHECK(shelf.stats().last_error.find("another user") != std::string::npos);
}

TEST_CASE("puts and erasures take effect in their order, whatever turn they were asked in") {
  const Directory directory;
  for (const bool in_one_turn : {true, false}) {
    ReplyShelf shelf(directory.path + (in_one_turn ? "/one" : "/many"));
    const auto step = [&] {
      if (!in_one_turn) shelf.loop.run();
    };
    const std::string large(100'000, 'L');
    shelf.put(1, "before", {7, 8});
    shelf.put(2, large, {7});
    shelf.put(3, "other", {8});
    step();
    shelf.erase(1, {7, 99});
    step();
    shelf.put(1, "after", {7, 8});
    step();
    shelf.erase(2, {99});
    shelf.loop.run();
    CHECK(shelf.erased == std::vector<uint64_t>{1, 2});
    CHECK(shelf.stats().erasures_pending == 0);
    CHECK((shelf.load_now(1) == "after"));
    CHECK((shelf.load_now(2) == "-"));
    CHECK((shelf.load_now(3) == "other"));
    CHECK(shelf.stats().entries == 2);
    shelf.put(4, "gone with all");
    shelf.store->erase_all(3);
    shelf.put(5, "after all");
    shelf.loop.run();
    CHECK(shelf.erased.back() == 3);
    for (const uint64_t gone : {1, 2, 3, 4}) CHECK((shelf.load_now(gone) == "-"));
    CHECK((shelf.load_now(5) == "after all"));
    CHECK(shelf.stats().entries == 1);
    CHECK(shelf.stats().begun_anew == 0);
  }
}

TEST_CASE("a reply that is put anew is found under its new names alone") {
  const Directory directory;
  ReplyShelf shelf(directory.path);
  shelf.put_now(1, "old", {7});
  shelf.put_now(1, std::string(100'000, 'n'), {8});
  shelf.erase_now({7});
  CHECK((shelf.load_now(1) == std::string(100'000, 'n')));
  shelf.put_now(1, "small again", {9, 9});
  CHECK(value_files(directory.path).empty());
  shelf.erase_now({8});
  CHECK((shelf.load_now(1) == "small again"));
  shelf.erase_now({9});
  CHECK((shelf.load_now(1) == "-"));
  CHECK(shelf.stats().entries == 0);
}

TEST_CASE("a name that thousands carry is erased whole, and the others stay") {
  const Directory directory;
  ReplyShelf shelf(directory.path);
  for (uint64_t i = 0; i < 5000; ++i) shelf.put(i, "value " + std::to_string(i), {i % 2, 100 + i});
  shelf.loop.run();
  CHECK(shelf.stats().entries == 5000);
  shelf.erase_now({0});
  CHECK(shelf.stats().entries == 2500);
  for (uint64_t i = 0; i < 5000; ++i) shelf.load(i);
  shelf.loop.run();
  for (uint64_t i = 0; i < 5000; ++i) {
    REQUIRE(shelf.loaded.at(i) == (i % 2 == 0 ? "-" : "value " + std::to_string(i)));
  }
}

TEST_CASE("an erasure that was reported is never followed by what it erased, however early that was asked for") {
  const Directory directory;
  ReplyShelf shelf(directory.path);
  const std::string large(2'000'000, 'x');
  for (int round = 0; round < 50; ++round) {
    shelf.put(1, large, {7});
    shelf.loop.run();
    shelf.loaded.clear();
    bool is_erased = false;
    bool came_after = false;
    for (uint64_t i = 0; i < 20; ++i) shelf.store->load(100 + i, hash_of(1));
    shelf.erase(1, {7});
    shelf.on_answer = [&](uint64_t ticket) {
      is_erased |= ticket == 1;
      came_after |= ticket >= 100 && is_erased && shelf.loaded.at(ticket) != "-";
    };
    shelf.loop.run();
    CHECK_FALSE(came_after);
    CHECK(shelf.loaded.size() == 20);
  }
}

TEST_CASE("what is asked in one turn is one commit, and reads commit nothing") {
  const Directory directory;
  ReplyShelf shelf(directory.path);
  auto before = shelf.store->commits();
  for (uint64_t i = 0; i < 30; ++i) shelf.put(i, "value", {i, 1000});
  shelf.erase(1, {5, 6});
  shelf.loop.run();
  CHECK(shelf.store->commits() == before + 1);
  before = shelf.store->commits();
  for (uint64_t i = 0; i < 30; ++i) shelf.load(i);
  shelf.loop.run();
  CHECK(shelf.stats().hits == 28);
  CHECK(shelf.store->commits() == before);
}

TEST_CASE("a reply ends with its time, and one from the future has ended") {
  const Directory directory;
  {
    ReplyShelf shelf(directory.path);
    shelf.store->put(hash_of(1), Slice::copy_of("aged"),
                     {.cost_us = 1, .ttl_ms = 60'000, .age_ms = 5'000, .names = {}});
    shelf.store->put(hash_of(2), Slice::copy_of("never"), {.cost_us = 1, .ttl_ms = 0, .names = {}});
    shelf.store->put(hash_of(3), Slice::copy_of("short"), {.cost_us = 1, .ttl_ms = 1, .names = {}});
    shelf.store->put(hash_of(4), Slice::copy_of("for good"), {.cost_us = 1, .ttl_ms = INT64_MAX, .names = {}});
    shelf.loop.run();
  }
  usleep(5000);
  ReplyShelf shelf(directory.path);
  CHECK((shelf.load_now(1) == "aged"));
  CHECK(shelf.replies.at(1).age_ms >= 5'000);
  CHECK(shelf.replies.at(1).left_ms <= 60'000);
  CHECK((shelf.load_now(2) == "-"));
  CHECK((shelf.load_now(3) == "-"));
  CHECK((shelf.load_now(4) == "for good"));
  CHECK(shelf.stats().entries == 2);
  CHECK(shelf.stats().damaged == 0);
  EntryHeader header{};
  header.put_ms = 1'000'000;
  header.until_ms = 2'000'000;
  CHECK_FALSE(is_expired(header, 1'000'000));
  CHECK_FALSE(is_expired(header, 1'999'999));
  CHECK(is_expired(header, 2'000'000));
  CHECK(is_expired(header, 900'000));
}

TEST_CASE("two replies with equal content share a file until the last one goes") {
  const Directory directory;
  ReplyShelf shelf(directory.path);
  const std::string large(300'000, 's');
  shelf.put(1, large, {1});
  shelf.put(2, large, {2});
  shelf.loop.run();
  CHECK(value_files(directory.path).size() == 1);
  CHECK(shelf.stats().bytes < 2 * large.size());
  shelf.erase_now({1});
  CHECK(value_files(directory.path).size() == 1);
  CHECK((shelf.load_now(2) == large));
  shelf.erase(3, {2});
  shelf.put(3, large, {3});
  shelf.loop.run();
  CHECK((shelf.load_now(3) == large));
  shelf.erase_now({3});
  CHECK(value_files(directory.path).empty());
}

TEST_CASE("files that nobody knows are removed after a start") {
  const Directory directory;
  {
    ReplyShelf shelf(directory.path);
    shelf.put_now(1, std::string(100'000, 'k'));
  }
  const fs::path folder = value_files(directory.path).at(0).parent_path();
  std::ofstream(folder / std::string(32, 'a')) << "left by a process that died";
  std::ofstream(folder / (std::string(32, 'b') + ".new")) << "half of one";
  ReplyShelf shelf(directory.path);
  CHECK(value_files(directory.path).size() == 1);
  CHECK((shelf.load_now(1) == std::string(100'000, 'k')));
}

TEST_CASE("the budget holds for what lies on the disk, whatever is put") {
  const QuickDirectory directory;
  constexpr uint64_t kBudget = 16 << 20;
  ReplyShelf shelf(directory.path, kBudget);
  Prng prng(1);
  uint64_t next = 0;
  uint64_t most = 0;
  for (int phase = 0; phase < 6; ++phase) {
    CAPTURE(phase);
    for (int turn = 0; turn < 40; ++turn) {
      for (int i = 0; i < 20; ++i) {
        const bool large = phase % 3 == 1 || (phase % 3 == 2 && prng.below(2) == 0);
        const uint64_t size = large ? 70'000 + prng.below(400'000) : prng.below(60'000);
        ++next;
        shelf.put(next, std::to_string(next) + std::string(size, 'v'), {next % 10, next});
      }
      shelf.loop.run();
      most = std::max(most, bytes_on_disk(directory.path));
      REQUIRE(shelf.stats().bytes <= kBudget);
    }
    CHECK(shelf.load_now(next).starts_with(std::to_string(next) + "v"));
  }
  CHECK(most <= kBudget + (64 << 10));  // the lock files
  CHECK(shelf.stats().bytes > kBudget / 2);
  CHECK(shelf.stats().evicted > 1000);
  CHECK(shelf.stats().refused < next / 100);
  CHECK(shelf.stats().begun_anew == 0);
  MESSAGE("at most ", most, " of ", kBudget, "; evicted ", shelf.stats().evicted, ", refused ", shelf.stats().refused,
          " of ", next);
}

TEST_CASE("what took long to fetch, and what is asked for, outlives what did not, also over a restart") {
  for (const size_t size : {size_t{2000}, size_t{80'000}}) {
    CAPTURE(size);
    const QuickDirectory directory;
    constexpr uint64_t kBudget = 8 << 20;
    const uint64_t count = size < kSmallBytesMax ? 300 : 20;
    const auto value = [&](uint64_t i) { return std::to_string(i) + std::string(size, 'v'); };
    {
      ReplyShelf shelf(directory.path, kBudget);
      for (uint64_t i = 0; i < 3 * count; ++i) {
        shelf.cost_us = i < count ? 1'000'000 : 1'000;
        shelf.put(i, value(i));
      }
      shelf.loop.run();
      for (int uses = 0; uses < 12; ++uses) {
        for (uint64_t i = count; i < 2 * count; ++i) shelf.load(i);
        shelf.loop.run();
      }
    }
    ReplyShelf shelf(directory.path, kBudget);
    shelf.cost_us = 1'000;
    for (uint64_t i = 0; i < 8 * count; ++i) {
      shelf.put(10'000 + i, value(i + 10'000));
      if (i % 10 == 0) shelf.loop.run();
    }
    shelf.loop.run();
    uint64_t kept[3] = {};
    for (uint64_t i = 0; i < 3 * count; ++i) kept[i / count] += shelf.load_now(i) != "-" ? 1 : 0;
    MESSAGE(kept[0], " dear, ", kept[1], " asked for and ", kept[2], " others of ", count, " each are left");
    CHECK(kept[0] >= count * 9 / 10);
    CHECK(kept[1] > 2 * kept[2] + count / 4);
    CHECK(kept[2] < count / 2);
  }
}

TEST_CASE("a queue that the disk does not keep up with refuses and counts") {
  const Directory directory;
  ReplyShelf shelf(directory.path);
  const std::string large(4 << 20, 'q');
  for (uint64_t i = 0; i < 10; ++i) shelf.put(i, large);
  CHECK(shelf.stats().refused > 5);
  shelf.loop.run();
  CHECK(shelf.stats().puts == 10 - shelf.stats().refused);
  shelf.put_now(20, large);
  CHECK((shelf.load_now(20) == large));
}

TEST_CASE("a second opener serves nothing until the first is gone") {
  const Directory directory;
  auto first = std::make_unique<ReplyShelf>(directory.path);
  first->put_now(1, "value");
  ReplyShelf second(directory.path);
  CHECK((second.load_now(1) == "-"));
  CHECK_FALSE(second.stats().is_serving);
  CHECK(second.stats().last_error.find("another process") != std::string::npos);
  second.put_now(2, "refused");
  CHECK(second.stats().refused == 1);
  second.erase_now({7});
  CHECK(second.erased.empty());
  CHECK(second.stats().erasures_pending == 1);
  first.reset();
  second.put_now(3, "opens it");
  CHECK(second.erased.size() == 1);
  CHECK((second.load_now(1) == "value"));
  CHECK((second.load_now(3) == "opens it"));
}

}  // namespace
}  // namespace mesh::io
