// The store on a real disk: what is written together, in which order, and what a full one does.

#include <doctest/doctest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <fstream>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "common/base/prng.h"
#include "tests/unit/shelf.h"

namespace mesh::io {
namespace {

TEST_CASE("what was stored is found and loaded by the next process, in one piece and with its first bytes") {
  const Directory directory;
  const std::string path = directory.path + "/some/where";
  const std::string large(100'000, 'x');
  {
    Shelf shelf(path);
    CHECK(shelf.recover().empty());
    shelf.store->put(1, key_of(1), {Slice::copy_of("head"), Slice(), Slice::copy_of(large)});
    shelf.store->put(2, key_of(2), {});
    shelf.loop.run();
    CHECK(shelf.stored == std::map<uint64_t, bool>{{1, true}, {2, true}});
    CHECK(shelf.store->problem().empty());
  }
  Shelf shelf(path);
  auto found = shelf.store->recover(6);
  std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.size > b.size; });
  REQUIRE(found.size() == 2);
  CHECK(found[0].key == key_of(1));
  CHECK(found[0].head.text() == "headxx");
  CHECK(found[0].size == large.size() + 4);
  CHECK(found[1].size == 0);
  CHECK(shelf.load_now(1) == "head" + large);
  CHECK(shelf.load_now(2).empty());
  CHECK(shelf.load_now(3) == "-");
}

TEST_CASE("nobody else can read the store") {
  const Directory directory;
  const std::string path = directory.path + "/some/where";
  const Shelf shelf(path);
  const auto mode_of = [](const std::string& name) {
    struct stat info {};
    REQUIRE(stat(name.c_str(), &info) == 0);
    return info.st_mode & 0777;
  };
  CHECK(mode_of(directory.path + "/some") == 0700);
  CHECK(mode_of(path) == 0700);
  CHECK(mode_of(path + "/data.mdb") == 0600);
  CHECK(mode_of(path + "/owner.lock") == 0600);
}

TEST_CASE("what is asked in one turn is one commit, and so is what comes while it is written") {
  const Directory directory;
  Shelf shelf(directory.path);
  for (uint64_t i = 0; i < 64; ++i) shelf.put(i, "value");
  shelf.on_answer = [&](uint64_t ticket) {
    if (ticket < 64) shelf.put(ticket + 100, "more");
  };
  shelf.loop.run();
  CHECK(shelf.stored.size() == 128);
  CHECK(shelf.store->report().commits == 2);
}

TEST_CASE("reads alone commit nothing, and neither does erasing what is not there") {
  const Directory directory;
  Shelf shelf(directory.path);
  shelf.put_now(1, "value");
  const auto before = shelf.store->report().commits;
  for (uint64_t i = 0; i < 10; ++i) shelf.load(i);
  shelf.loop.run();
  CHECK(shelf.loaded.size() == 10);
  CHECK(shelf.store->report().commits == before);
}

TEST_CASE("requests take effect in their order and are answered in it") {
  const Directory directory;
  Shelf shelf(directory.path);
  const auto load_as = [&](uint64_t ticket) { shelf.store->load(ticket, key_of(7)); };
  const auto put_as = [&](uint64_t ticket, std::string_view value) {
    shelf.store->put(ticket, key_of(7), {Slice::copy_of(value)});
  };
  load_as(1);
  put_as(2, "first");
  load_as(3);
  shelf.store->erase(key_of(7));
  load_as(4);
  put_as(5, "second");
  load_as(6);
  shelf.loop.run();
  CHECK(shelf.answers ==
        std::vector<std::string>{"loaded 1", "stored 2", "loaded 3", "loaded 4", "stored 5", "loaded 6"});
  CHECK(shelf.loaded == std::map<uint64_t, std::string>{{1, "-"}, {3, "first"}, {4, "-"}, {6, "second"}});
}

TEST_CASE("what was asked before the store is destroyed is on disk, and nobody is told") {
  const Directory directory;
  {
    Shelf shelf(directory.path);
    shelf.put(1, "in work");
    shelf.on_answer = [&](uint64_t ticket) {
      if (ticket == 1) shelf.put(3, "asked while answering");
    };
    shelf.store->put(2, key_of(2), {Slice::copy_of("in work")});
    shelf.loop.run();
    shelf.answers.clear();
    shelf.put(4, "asked last");
    shelf.store.reset();
    shelf.loop.run();
    CHECK(shelf.answers.empty());
  }
  CHECK(Shelf(directory.path).recover() == std::vector<uint64_t>{1, 2, 3, 4});
}

TEST_CASE("a store may be destroyed while the disk works for it, and in its own answer") {
  struct AtTurnsEnd final : TurnObserver {
    std::function<void()> timer;
    void on_timer() override { timer(); }
    void on_turn_ending() override {}
  };
  const Directory directory;
  {
    Shelf shelf(directory.path);
    AtTurnsEnd turns;
    shelf.loop.set_turn_observer(&turns);
    for (uint64_t i = 0; i < 100; ++i) shelf.put(i, std::string(1000, 'v'));
    turns.timer = [&] { shelf.store.reset(); };
    shelf.loop.arm_timer(shelf.loop.now());
    shelf.loop.run();
    CHECK((shelf.store == nullptr));
  }
  Shelf shelf(directory.path);
  CHECK(shelf.recover().size() == 100);
  shelf.put(200, "value");
  shelf.put(201, "value");
  shelf.on_answer = [&](uint64_t) { shelf.store.reset(); };
  shelf.loop.run();
  CHECK(shelf.answers == std::vector<std::string>{"stored 200"});
}

TEST_CASE("a second opener is refused until the first is gone, and told what to do") {
  const Directory directory;
  Loop loop;
  {
    const Shelf first(directory.path);
    const auto second = loop.open_store(directory.path, kMapBytes);
    REQUIRE_FALSE(second.has_value());
    CHECK(second.error().rule == "store");
    CHECK(second.error().text.find(directory.path) != std::string::npos);
    CHECK(second.error().text.find("another process") != std::string::npos);
    CHECK_FALSE(second.error().hint.empty());
  }
  CHECK(loop.open_store(directory.path, kMapBytes).has_value());
}

TEST_CASE("a store that cannot be is an error with a hint") {
  const Directory directory;
  Loop loop;
  std::ofstream(directory.path + "/file") << "no directory";
  CHECK_FALSE(loop.open_store(directory.path + "/file/store", kMapBytes).has_value());
  const std::string damaged = directory.path + "/damaged";
  REQUIRE(mkdir(damaged.c_str(), 0700) == 0);
  std::ofstream(damaged + "/data.mdb") << std::string(20'000, 'x');
  const auto opened = loop.open_store(damaged, kMapBytes);
  REQUIRE_FALSE(opened.has_value());
  CHECK(opened.error().hint.find("aside") != std::string::npos);
}

TEST_CASE("one record that is too large does not fail the others of its turn") {
  const Directory directory;
  Shelf shelf(directory.path);
  for (uint64_t i = 0; i < 64; ++i) shelf.put(i, i == 17 ? std::string(2 * kMapBytes, 'x') : "small");
  shelf.load(3);
  shelf.loop.run();
  for (const auto& [ticket, is_stored] : shelf.stored) CHECK(is_stored == (ticket != 17));
  CHECK(shelf.loaded.at(3) == "small");
  CHECK(shelf.store->report().failed_puts == 1);
  CHECK(shelf.store->report().commits < 10);
  CHECK(shelf.store->problem().find("full") != std::string::npos);
  CHECK(shelf.put_now(100, "small"));
  CHECK(shelf.store->problem().empty());
}

TEST_CASE("a full store can always be emptied, and takes records again at once; over and over") {
  const Directory directory;
  Shelf shelf(directory.path);
  Prng prng(1);
  std::map<uint64_t, std::string> expected;
  uint64_t next = 0;
  size_t least = kMapBytes;
  for (int round = 0; round < 30; ++round) {
    CAPTURE(round);
    // Large ones first, then ever smaller ones into what is left.
    for (size_t bytes = 50'000; bytes > 50;) {
      const std::string value(bytes, static_cast<char>('a' + round % 26));
      if (shelf.put_now(++next, value)) {
        expected[next] = value;
      } else {
        bytes /= 2 + next % 3;
      }
    }
    size_t held = 0;
    for (const auto& [number, value] : expected) held += value.size();
    least = std::min(least, held);
    const bool all = round % 3 == 0;
    const auto before = expected.size();
    std::erase_if(expected, [&](const auto& record) {
      const bool goes = all || prng.below(10) < 5;
      if (goes) shelf.store->erase(key_of(record.first));
      if (goes && prng.below(4) == 0) shelf.loop.run();
      return goes;
    });
    shelf.loop.run();
    REQUIRE(expected.size() < before);
    CHECK(shelf.store->problem().empty());
    CHECK((all ? shelf.put_now(++next, std::string(400'000, 'L')) : true));
    if (all) shelf.store->erase(key_of(next));
  }
  shelf.loop.run();
  CHECK(least > kMapBytes / 2);
  for (const auto& [number, value] : expected) CHECK(shelf.load_now(number) == value);
  std::vector<uint64_t> numbers;
  for (const auto& [number, value] : expected) numbers.push_back(number);
  shelf.store.reset();
  struct stat info {};
  REQUIRE(stat((directory.path + "/data.mdb").c_str(), &info) == 0);
  MESSAGE("held at least ", least, " of ", kMapBytes, " bytes; the file has ", info.st_size);
  CHECK(Shelf(directory.path).recover() == numbers);
}

TEST_CASE("a disk that takes no more fails the put and nothing else") {
  const Directory directory;
  Shelf shelf(directory.path, 64 << 20);
  REQUIRE(shelf.put_now(1, "before"));
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit tight{1 << 20, before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &tight);
  const bool large = shelf.put_now(2, std::string(8 << 20, 'x'));
  const std::string problem = shelf.store->problem();
  const bool small = shelf.put_now(3, "small");
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  CHECK_FALSE(large);
  CHECK_FALSE(problem.empty());
  CHECK(small);
  CHECK(shelf.load_now(1) == "before");
  CHECK(shelf.put_now(2, std::string(8 << 20, 'x')));
}

}  // namespace
}  // namespace mesh::io
