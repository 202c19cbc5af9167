// Replies on a disk that lies, fills up or goes away: misses, and nothing worse.

#include <doctest/doctest.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "common/base/prng.h"
#include "tests/unit/reply_shelf.h"

namespace mesh::io {
namespace {

namespace fs = std::filesystem;

std::string read_file(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void write_file(const fs::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

fs::path only_file(const std::string& path) {
  for (const auto& entry : fs::recursive_directory_iterator(path + "/values")) {
    if (entry.is_regular_file()) return entry.path();
  }
  FAIL("there is no file");
  return {};
}

TEST_CASE("a large value that is damaged, cut or gone is a miss, is removed, and can be put anew") {
  const std::string large(200'000, 'L');
  for (const std::string kind : {"flipped", "cut", "longer", "emptied", "removed", "a directory"}) {
    CAPTURE(kind);
    const Directory directory;
    ReplyShelf shelf(directory.path);
    shelf.put(1, large, {7});
    shelf.put(2, large);
    shelf.put(3, "small");
    shelf.loop.run();
    const fs::path file = only_file(directory.path);
    std::string bytes = large;
    bytes[123'456] ^= 1;
    if (kind == "flipped") write_file(file, bytes);
    if (kind == "cut") fs::resize_file(file, 100'000);
    if (kind == "longer") write_file(file, large + "x");
    if (kind == "emptied") write_file(file, "");
    if (kind == "removed" || kind == "a directory") fs::remove(file);
    if (kind == "a directory") fs::create_directory(file);
    CHECK((shelf.load_now(1) == "-"));
    CHECK(shelf.stats().damaged == 1);
    CHECK(shelf.stats().entries == 2);
    CHECK((shelf.load_now(1) == "-"));
    CHECK(shelf.stats().damaged == 1);
    if (kind == "a directory") continue;
    // Who shares it finds it whole again if somebody puts it before that.
    shelf.put_now(4, large);
    CHECK((shelf.load_now(4) == large));
    CHECK((shelf.load_now(2) == large));
    CHECK((shelf.load_now(3) == "small"));
  }
}

TEST_CASE("a small value with a wrong byte is a miss, is removed, and the others stay") {
  const Directory directory;
  {
    ReplyShelf shelf(directory.path);
    shelf.put(1, "a value that is about to suffer", {7});
    shelf.put(2, "another");
    shelf.put(3, std::string(20'000, 'p') + "pages about to suffer");
    shelf.loop.run();
  }
  std::string bytes = read_file(directory.path + "/data.mdb");
  for (const std::string what : {"value that is about", "pages about"}) {
    for (size_t at = bytes.find(what); at != bytes.npos; at = bytes.find(what, at + 1)) bytes[at] = '#';
  }
  write_file(directory.path + "/data.mdb", bytes);
  ReplyShelf shelf(directory.path);
  CHECK((shelf.load_now(1) == "-"));
  CHECK((shelf.load_now(2) == "another"));
  CHECK((shelf.load_now(3) == "-"));
  CHECK(shelf.stats().damaged == 2);
  CHECK(shelf.stats().begun_anew == 0);
  CHECK(shelf.stats().entries == 1);
  shelf.erase_now({7});
  CHECK(shelf.erased.size() == 1);
}

TEST_CASE("an index that is none is thrown away, and the store begins anew") {
  for (const std::string kind : {"text", "cut", "short", "zeros", "no root"}) {
    CAPTURE(kind);
    const Directory directory;
    const std::string index = directory.path + "/data.mdb";
    {
      ReplyShelf shelf(directory.path);
      for (uint64_t i = 0; i < 200; ++i) shelf.put(i, std::string(1000, 'v'));
      shelf.put(999, std::string(100'000, 'L'));
      shelf.loop.run();
    }
    std::string bytes = read_file(index);
    if (kind == "text") bytes.assign(20'000, 'x');
    if (kind == "cut") bytes.resize(bytes.size() / 2);
    if (kind == "short") bytes.resize(100);
    if (kind == "zeros") bytes.assign(bytes.size(), '\0');
    if (kind == "no root") std::fill(bytes.begin(), bytes.begin() + 8192, '\0');
    write_file(index, bytes);
    write_file(directory.path + "/lock.mdb", std::string(5000, 'l'));
    ReplyShelf shelf(directory.path);
    CHECK(shelf.stats().begun_anew == 1);
    CHECK(shelf.stats().is_serving);
    CHECK(shelf.stats().entries == 0);
    CHECK((shelf.load_now(1) == "-"));
    shelf.put_now(1, "new");
    CHECK((shelf.load_now(1) == "new"));
    size_t files = 0;
    for (const auto& entry : fs::recursive_directory_iterator(directory.path + "/values"))
      files += entry.is_regular_file();
    CHECK(files == 0);
  }
}

// Few bytes wrong anywhere in the index. Whatever LMDB would make of them, it is not let at them.
TEST_CASE("wrong bytes in the index give misses or a fresh store, never a wrong value and never a crash") {
  const QuickDirectory directory;
  const std::string base = directory.path + "/base";
  const auto value = [](uint64_t i) { return std::to_string(i) + std::string(i * 7919 % 6000, 'v'); };
  {
    ReplyShelf shelf(base);
    for (uint64_t i = 0; i < 300; ++i) shelf.put(i, value(i), {i % 7, 100 + i});
    shelf.loop.run();
    shelf.erase_now({3});
  }
  const std::string whole = read_file(base + "/data.mdb");
  std::vector<size_t> structural;  // pages with keys, and the roots
  for (size_t page = 0; page * 4096 < whole.size(); ++page) {
    const auto flags = static_cast<uint8_t>(whole[page * 4096 + 10]);
    if ((flags & 0x0B) != 0 && whole[page * 4096 + 11] == 0) structural.push_back(page);
  }
  const char* wanted = std::getenv("MESH_FLIPS");
  const int rounds = wanted != nullptr ? std::atoi(wanted) : 200;
  Prng prng(static_cast<uint64_t>(rounds));
  int fresh = 0;
  int same = 0;
  for (int round = 0; round < rounds; ++round) {
    CAPTURE(round);
    std::string bytes = whole;
    for (uint64_t flips = 1 + prng.below(4); flips > 0; --flips) {
      const size_t page = round % 4 == 0 ? prng.below(bytes.size() / 4096) : structural[prng.below(structural.size())];
      const size_t at = page * 4096 + prng.below(round % 3 == 0 ? 4096 : 100);
      bytes[at] = static_cast<char>(static_cast<uint8_t>(bytes[at]) ^ (1U << prng.below(8)));
    }
    const std::string path = directory.path + "/round";
    fs::create_directory(path);
    write_file(path + "/data.mdb", bytes);
    {
      ReplyShelf shelf(path);
      for (uint64_t i = 0; i < 300; ++i) shelf.load(i);
      shelf.loop.run();
      size_t hits = 0;
      for (uint64_t i = 0; i < 300; ++i) {
        const std::string& loaded = shelf.loaded.at(i);
        REQUIRE((loaded == "-" || (i % 7 != 3 && loaded == value(i))));
        hits += loaded != "-";
      }
      fresh += shelf.stats().begun_anew > 0;
      same += hits == 257;
      shelf.erase(1000, {4});
      for (uint64_t i = 1000; i < 1040; ++i) shelf.put(i, value(i), {i % 7});
      shelf.loop.run();
      CHECK(shelf.erased.size() == 1);
      for (uint64_t i = 4; i < 300; i += 7) REQUIRE((shelf.load_now(i) == "-"));
      for (uint64_t i = 1000; i < 1040; ++i) REQUIRE((shelf.load_now(i) == value(i)));
    }
    fs::remove_all(path);
  }
  MESSAGE("of ", rounds, " stores ", fresh, " began anew, ", same, " had lost nothing");
  CHECK(fresh > rounds / 8);
  CHECK(same > 0);
}

TEST_CASE("a put whose root a power cut has lost is lost alone, and what was erased before stays erased") {
  const Directory directory;
  const std::string index = directory.path + "/data.mdb";
  std::string roots;
  {
    ReplyShelf shelf(directory.path);
    shelf.put(1, "kept", {1});
    shelf.put(2, "erased", {2});
    shelf.loop.run();
    shelf.erase_now({2});
    roots = read_file(index).substr(0, 8192);
    shelf.put_now(3, std::string(10'000, 'l'), {1});
  }
  std::string bytes = read_file(index);
  std::copy(roots.begin(), roots.end(), bytes.begin());
  write_file(index, bytes);
  ReplyShelf shelf(directory.path);
  CHECK(shelf.stats().begun_anew == 0);
  CHECK((shelf.load_now(1) == "kept"));
  CHECK((shelf.load_now(2) == "-"));
  CHECK((shelf.load_now(3) == "-"));
  CHECK(shelf.stats().damaged == 0);
}

TEST_CASE("a store whose directory is taken away goes on with an empty one") {
  const Directory directory;
  const std::string path = directory.path + "/store";
  ReplyShelf shelf(path);
  shelf.put(1, "small");
  shelf.put(2, std::string(100'000, 'L'));
  shelf.loop.run();
  fs::remove_all(path);
  CHECK((shelf.load_now(2) == "-"));
  shelf.put_now(3, "new");
  CHECK((shelf.load_now(3) == "new"));
  CHECK((shelf.load_now(1) == "-"));
  CHECK(fs::exists(path + "/data.mdb"));
  CHECK_FALSE(shelf.stats().last_error.empty());
  fs::remove_all(path);
  write_file(path, "a file stands where the directory was");
  shelf.put_now(4, "refused");
  shelf.erase_now({7});
  CHECK((shelf.load_now(4) == "-"));
  CHECK(shelf.erased.empty());
  CHECK_FALSE(shelf.stats().is_serving);
  CHECK(shelf.stats().refused == 1);
  fs::remove(path);
  shelf.put_now(5, "after all");
  CHECK((shelf.load_now(5) == "after all"));
  CHECK(shelf.erased.size() == 1);
}

TEST_CASE("an index that may not grow refuses puts and counts; an erasure is done all the same") {
  const Directory directory;
  ReplyShelf shelf(directory.path);
  shelf.put_now(1, "before", {7});
  shelf.put_now(2, "stays or goes", {8});
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit tight{fs::file_size(directory.path + "/data.mdb"), before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &tight);
  for (uint64_t i = 10; i < 40; ++i) shelf.put(i, std::string(60'000, 'x'));
  shelf.put(50, std::string(200'000, 'L'));
  shelf.loop.run();
  const uint64_t refused = shelf.stats().refused;
  shelf.erase_now({7});
  const bool is_erased = shelf.erased.size() == 1;
  const std::string loaded = shelf.load_now(1);
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  CHECK(refused >= 30);
  CHECK(is_erased);
  CHECK(loaded == "-");
  CHECK_FALSE(shelf.stats().last_error.empty());
  shelf.put_now(60, std::string(60'000, 'x'));
  shelf.put_now(61, std::string(200'000, 'L'));
  CHECK((shelf.load_now(60) == std::string(60'000, 'x')));
  CHECK((shelf.load_now(61) == std::string(200'000, 'L')));
}

TEST_CASE("a full disk refuses and counts, and takes replies again when there is space") {
  const Directory directory;
  const std::string disk = directory.path + "/disk";
  fs::create_directory(disk);
  if (mount("tmpfs", disk.c_str(), "tmpfs", 0, "size=4m") != 0) {
    MESSAGE("skipped: a tmpfs cannot be mounted here");
    return;
  }
  {
    ReplyShelf shelf(disk + "/store");
    shelf.put_now(1, "before", {7});
    write_file(disk + "/ballast", std::string(3 << 20, 'b'));
    for (uint64_t i = 10; i < 60; ++i) {
      shelf.put(i, std::string(i % 2 == 0 ? 50'000 : 150'000, 'x'), {i});
      if (i % 5 == 0) shelf.loop.run();
    }
    shelf.loop.run();
    CHECK(shelf.stats().refused >= 10);
    CHECK(shelf.stats().is_serving);
    CHECK_FALSE(shelf.stats().last_error.empty());
    CHECK((shelf.load_now(1) == "before"));
    shelf.erase_now({7});
    CHECK(shelf.erased.size() == 1);
    CHECK((shelf.load_now(1) == "-"));
    fs::remove(disk + "/ballast");
    const uint64_t refused = shelf.stats().refused;
    shelf.put(100, std::string(50'000, 'y'));
    shelf.put(101, std::string(150'000, 'y'));
    shelf.loop.run();
    CHECK((shelf.load_now(100) == std::string(50'000, 'y')));
    CHECK((shelf.load_now(101) == std::string(150'000, 'y')));
    CHECK(shelf.stats().refused == refused);
    CHECK(shelf.stats().damaged == 0);
  }
  CHECK(umount2(disk.c_str(), MNT_DETACH) == 0);
}

}  // namespace
}  // namespace mesh::io
