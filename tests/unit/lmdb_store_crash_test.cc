// What a store still knows after damage, after time, and after kill -9.

#include <doctest/doctest.h>
#include <fcntl.h>
#include <lmdb.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <vector>

#include "common/base/prng.h"
#include "tests/unit/shelf.h"

namespace mesh::io {
namespace {

// Changes the bytes of the only place in the file that has this text.
void damage(const std::string& path, std::string_view text) {
  std::fstream file(path + "/data.mdb", std::ios::in | std::ios::out | std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(file), {}};
  const size_t at = bytes.rfind(text);
  REQUIRE(at != bytes.npos);
  file.seekp(static_cast<std::streamoff>(at));
  file.put('#');
}

TEST_CASE("a value with a wrong byte is told as missing, not as something else") {
  const Directory directory;
  {
    Shelf shelf(directory.path);
    shelf.put_now(1, "a value that is about to suffer");
    shelf.put_now(2, "another");
  }
  damage(directory.path, "about to suffer");
  Shelf shelf(directory.path);
  CHECK(shelf.recover() == std::vector<uint64_t>{1, 2});
  CHECK(shelf.load_now(1) == "-");
  CHECK(shelf.load_now(2) == "another");
  CHECK(shelf.store->report().broken_records == 1);
}

TEST_CASE("a file that was cut gives missing values and no fault of the process") {
  const Directory directory;
  {
    Shelf shelf(directory.path);
    shelf.put_now(1, std::string(200'000, 'x'));
  }
  REQUIRE(truncate((directory.path + "/data.mdb").c_str(), 60'000) == 0);
  Shelf shelf(directory.path);
  shelf.recover();
  CHECK(shelf.load_now(1) == "-");
}

// Writes what no store would.
void plant(const std::string& path, std::string_view key, const std::vector<Slice>& value) {
  MDB_env* env = nullptr;
  MDB_txn* txn = nullptr;
  MDB_dbi dbi = 0;
  std::string bytes;
  for (const Slice& piece : value) bytes += piece.text();
  MDB_val key_val{key.size(), const_cast<char*>(key.data())};
  MDB_val value_val{bytes.size(), bytes.data()};
  REQUIRE(mdb_env_create(&env) == 0);
  REQUIRE(mdb_env_open(env, path.c_str(), 0, 0600) == 0);
  REQUIRE(mdb_txn_begin(env, nullptr, 0, &txn) == 0);
  REQUIRE(mdb_dbi_open(txn, nullptr, 0, &dbi) == 0);
  REQUIRE(mdb_put(txn, dbi, &key_val, &value_val, 0) == 0);
  REQUIRE(mdb_txn_commit(txn) == 0);
  mdb_env_close(env);
}

// A whole record as it would lie there if another kernel, or this one at another time, had written it.
void plant_aged(const std::string& path, uint64_t number, const BootId& boot, int64_t written_ns) {
  const RecordKey key = key_of(number);
  const std::vector<Slice> value = {Slice::copy_of("planted")};
  const RecordHeader header = make_header(key, value, boot, written_ns);
  plant(path, as_text(key),
        {Slice::copy_of(ByteView(reinterpret_cast<const uint8_t*>(&header), sizeof(header))), value[0]});
}

TEST_CASE("records without a whole header are skipped, counted and erased") {
  const Directory directory;
  Shelf(directory.path).put_now(1, "good");
  plant(directory.path, as_text(key_of(2)), {Slice::copy_of("short")});
  plant(directory.path, as_text(key_of(3)), {Slice::copy_of(std::string(200, 'n'))});
  plant(directory.path, "a key of another length", {Slice::copy_of(std::string(200, 'n'))});
  {
    Shelf shelf(directory.path);
    CHECK(shelf.recover() == std::vector<uint64_t>{1});
    CHECK(shelf.store->report().broken_records == 3);
  }
  Shelf shelf(directory.path);
  CHECK(shelf.recover() == std::vector<uint64_t>{1});
  CHECK(shelf.store->report().broken_records == 0);
}

TEST_CASE("an age is the time that passed, never negative, and zero where the computer was restarted") {
  const Directory directory;
  Shelf(directory.path).put_now(1, "just now");
  BootId other = current_boot_id();
  other[5] ^= 1;
  const int64_t now_ns = boottime_ns();
  plant_aged(directory.path, 2, current_boot_id(), now_ns - 3'600'000'000'000);
  plant_aged(directory.path, 3, current_boot_id(), now_ns + 3'600'000'000'000);
  plant_aged(directory.path, 4, other, now_ns - 3'600'000'000'000);
  plant_aged(directory.path, 5, BootId{}, now_ns - 3'600'000'000'000);
  std::map<uint64_t, Duration> first;
  for (int round = 0; round < 3; ++round) {
    std::map<uint64_t, Duration> ages;
    for (const auto& found : Shelf(directory.path).store->recover(0)) ages[number_of(found.key)] = found.age;
    REQUIRE(ages.size() == 5);
    CHECK(ages[1] > Duration::zero());
    CHECK(ages[1] < std::chrono::minutes(1));
    CHECK(ages[2] >= std::chrono::hours(1));
    CHECK(ages[3] == Duration::zero());
    CHECK(ages[4] == Duration::zero());
    CHECK(ages[5] == Duration::zero());
    for (const auto& [number, age] : first) CHECK(ages[number] >= age);
    first = ages;
  }
  CHECK(parse_boot_id("no id") == BootId{});
  CHECK(current_boot_id() != BootId{});
}

constexpr char kChildStore[] = "MESH_TEST_CHILD_STORE";
constexpr char kChildFirst[] = "MESH_TEST_CHILD_FIRST";
constexpr int kChildPipe = 3;
constexpr size_t kLargeMapBytes = 256 << 20;

std::string value_of(uint64_t number) {
  return std::to_string(number) + std::string(number * 7919 % 9000, static_cast<char>('a' + number % 26));
}

TEST_CASE("puts records until it is killed" * doctest::skip()) {
  const char* path = std::getenv(kChildStore);
  const char* first = std::getenv(kChildFirst);
  if (path == nullptr || first == nullptr) return;
  Shelf shelf(path, kLargeMapBytes);
  uint64_t next = std::strtoull(first, nullptr, 10);
  shelf.on_answer = [&](uint64_t ticket) {
    if (shelf.stored.at(ticket) && write(kChildPipe, &ticket, sizeof(ticket)) != sizeof(ticket)) _exit(1);
    shelf.put(next, value_of(next));
    ++next;
  };
  for (int i = 0; i < 16; ++i, ++next) shelf.put(next, value_of(next));
  shelf.loop.run();
}

// Starts this program anew, for a child of a process with threads must not do more than that. Gives back its id.
pid_t start_child(const std::string& path, uint64_t first, int write_end) {
  const std::string store = std::string(kChildStore) + "=" + path;
  const std::string number = std::string(kChildFirst) + "=" + std::to_string(first);
  const char* const arguments[] = {"io_test", "--no-skip", "--test-case=puts records until it is killed", nullptr};
  const char* const environment[] = {store.c_str(), number.c_str(), nullptr};
  const pid_t child = fork();
  if (child != 0) return child;
  if (dup2(write_end, kChildPipe) == write_end) fcntl(write_end, F_SETFD, 0);
  const int nowhere = open("/dev/null", O_WRONLY);
  dup2(nowhere, STDOUT_FILENO);
  execve("/proc/self/exe", const_cast<char* const*>(arguments), const_cast<char* const*>(environment));
  _exit(127);
}

TEST_CASE("every record that was told as stored is there after kill -9, round after round") {
  const Directory directory;
  Prng prng(static_cast<uint64_t>(getpid()));
  std::vector<uint64_t> acknowledged;
  for (uint64_t round = 0; round < 8; ++round) {
    int ends[2];
    REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
    const pid_t child = start_child(directory.path, round * 1'000'000, ends[1]);
    REQUIRE(child > 0);
    close(ends[1]);
    uint64_t ticket = 0;
    const size_t before = acknowledged.size();
    while (read(ends[0], &ticket, sizeof(ticket)) == sizeof(ticket)) {
      // Only once it is at work, then at any moment of a commit.
      if (acknowledged.size() == before + 20) {
        usleep(static_cast<useconds_t>(prng.below(20'000)));
        kill(child, SIGKILL);
      }
      acknowledged.push_back(ticket);
    }
    close(ends[0]);
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK(WIFSIGNALED(status));
    CHECK(acknowledged.size() > before + 20);
  }
  Shelf shelf(directory.path, kLargeMapBytes);
  const auto found = shelf.recover();
  CHECK(shelf.store->report().broken_records == 0);
  for (const uint64_t ticket : acknowledged) {
    REQUIRE(std::binary_search(found.begin(), found.end(), ticket));
    shelf.load(ticket);
  }
  shelf.loop.run();
  for (const uint64_t ticket : acknowledged) REQUIRE(shelf.loaded.at(ticket) == value_of(ticket));
  MESSAGE(acknowledged.size(), " acknowledged, ", found.size(), " found");
}

}  // namespace
}  // namespace mesh::io
