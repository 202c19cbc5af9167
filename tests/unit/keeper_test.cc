// Descriptors and records that outlive the process they were of.

#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "sidecar/io/descriptor_keeper.h"
#include "sidecar/io/journal_file.h"
#include "sidecar/io/process.h"
#include "tests/unit/shared_folder.h"

namespace mesh::io {
namespace {

// The first life keeps a file and is killed, the second must find it with its content.
int live_twice(OwnedFd socket) {
  DescriptorKeeper keeper(std::move(socket));
  std::vector<KeptDescriptor> kept;
  if (!keeper.list(kept)) return 10;
  if (kept.empty()) {
    const OwnedFd file(memfd_create("kept", MFD_CLOEXEC));
    const OwnedFd other(memfd_create("dropped", MFD_CLOEXEC));
    if (pwrite(file.get(), "content", 7, 0) != 7) return 11;
    if (!keeper.put(4, {1}, file.get()) || !keeper.put(5, {}, other.get())) return 12;
    if (!keeper.put(6, {}, file.get()) || !keeper.label({{{4, {1, 1}}, {6, {3}}}})) return 15;
    if (keeper.label_at_once({{{4, {2}}, {5, {9}}}}) != DescriptorKeeper::Said::kAll) return 16;
    const std::vector<LabelledNumber> too_many(DescriptorKeeper::kLabelsAtOnceMax + 1, LabelledNumber{4, {4}});
    if (keeper.label_at_once(too_many) != DescriptorKeeper::Said::kNothing) return 17;
    if (!keeper.drop({{5}})) return 13;
    raise(SIGKILL);
  }
  char found[7];
  const bool is_same = kept.size() == 2 && kept[0].number == 4 && kept[0].label == KeptLabel{2} &&
                       kept[1].number == 6 && kept[1].label == KeptLabel{3} &&
                       pread(kept[0].fd.get(), found, 7, 0) == 7 && std::string_view(found, 7) == "content";
  return is_same ? 7 : 14;
}

TEST_CASE("what a killed process gave to its keeper its successor is given, and nothing that was dropped") {
  const pid_t keeper = fork();
  if (keeper == 0) {
    close(STDERR_FILENO);
    _exit(keep_descriptors_for(live_twice));
  }
  int status = 0;
  REQUIRE(waitpid(keeper, &status, 0) == keeper);
  CHECK(WEXITSTATUS(status) == 7);
}

TEST_CASE("a keeper that does not read is not waited for where that was asked") {
  int ends[2] = {-1, -1};
  REQUIRE(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
  DescriptorKeeper keeper(OwnedFd{ends[0]});
  OwnedFd other(ends[1]);
  const std::vector<LabelledNumber> labels(DescriptorKeeper::kLabelsAtOnceMax, LabelledNumber{4, {4}});
  int said = 0;
  while (said < 100'000 && keeper.label_at_once(labels) == DescriptorKeeper::Said::kAll) ++said;
  CHECK(said > 0);
  CHECK(keeper.label_at_once(labels) == DescriptorKeeper::Said::kNothing);
  other.reset();
  CHECK(keeper.label_at_once(labels) == DescriptorKeeper::Said::kNobodyThere);
}

TEST_CASE("a process is known by its number and its start, and its end is seen") {
  const pid_t child = fork();
  if (child == 0) {
    for (;;) pause();
  }
  CHECK_FALSE(open_process(process_name(child, 1)));  // another one had this number
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  CHECK_FALSE(open_process(process_name(child, 1)));
  CHECK(pid_of(process_name(child, 12345)) == child);
}

TEST_CASE("a journal ends where it is torn, and a rewrite takes its place at once") {
  const SharedFolder folder;
  const std::string path = folder.path + "/journal";
  const std::vector<std::string> records = {"one", "", std::string(5000, 'x')};
  std::vector<std::string> found;
  {
    auto journal = JournalFile::open(path, found);
    REQUIRE(journal);
    CHECK(found.empty());
    REQUIRE(journal->rewrite({}));
    REQUIRE(journal->append(records));
    CHECK(journal->bytes() == 5003 + 3 * 16);
  }
  REQUIRE(JournalFile::open(path, found));
  CHECK(found == records);
  REQUIRE(truncate(path.c_str(), 100) == 0);
  found.clear();
  auto journal = JournalFile::open(path, found);
  REQUIRE(journal);
  CHECK(found == std::vector<std::string>{"one", ""});
  REQUIRE(journal->rewrite(found));
  REQUIRE(journal->append({{"two"}}));
  found.clear();
  REQUIRE(JournalFile::open(path, found));
  CHECK(found == std::vector<std::string>{"one", "", "two"});
}

}  // namespace
}  // namespace mesh::io
