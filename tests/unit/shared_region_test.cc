#include "sidecar/io/shared_region.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <string>

#include "common/base/limits.h"
#include "common/cache/shared_tier.h"
#include "tests/unit/self_telling.h"
#include "tests/unit/shared_folder.h"

namespace mesh::io {
namespace {

using cache::key_of;
using cache::kNow;
using cache::self_telling;
using cache::SharedTier;
using limits::KiB;
using limits::MiB;

TEST_CASE("two that open the same path share memory, and the second takes the size that is there") {
  const SharedFolder folder;
  const auto one = SharedRegion::open(folder.file(), 8 * MiB + 1);
  const auto other = SharedRegion::open(folder.file(), 64 * MiB);
  REQUIRE((one.has_value() && other.has_value()));
  CHECK((*one)->memory().size() == 8 * MiB + 4 * KiB);
  CHECK((*other)->memory().size() == 8 * MiB + 4 * KiB);
  REQUIRE((*one)->reserve(4 * KiB, 4 * KiB));
  (*one)->memory()[5000] = std::byte{7};
  CHECK((*other)->memory()[5000] == std::byte{7});
  struct stat info {};
  REQUIRE(stat(folder.file().c_str(), &info) == 0);
  CHECK((info.st_mode & 0777) == 0600);
  CHECK(info.st_blocks * 512 < 64 * static_cast<off_t>(KiB));  // what nobody asked for takes nothing
  CHECK_FALSE(std::filesystem::is_empty(folder.path));
}

TEST_CASE("a file that is not this user's alone, or no file, is refused with what to do") {
  const SharedFolder folder;
  const auto denied = [&](const std::string& path) {
    const auto opened = SharedRegion::open(path, 4 * MiB);
    return !opened.has_value() && opened.error().code == Code::kDenied && !opened.error().hint.empty();
  };
  REQUIRE(SharedRegion::open(folder.file(), 4 * MiB).has_value());
  REQUIRE(chmod(folder.file().c_str(), 0640) == 0);
  CHECK(denied(folder.file()));
  REQUIRE(symlink("region", (folder.path + "/link").c_str()) == 0);
  CHECK(denied(folder.path + "/link"));
  REQUIRE(mkfifo((folder.path + "/fifo").c_str(), 0600) == 0);
  CHECK(denied(folder.path + "/fifo"));
  if (geteuid() == 0) {
    REQUIRE(chmod(folder.file().c_str(), 0600) == 0);
    REQUIRE(chown(folder.file().c_str(), 12345, 0) == 0);
    CHECK(denied(folder.file()));
  }
  std::ofstream(folder.path + "/empty");
  REQUIRE(chmod((folder.path + "/empty").c_str(), 0600) == 0);
  for (const std::string& path : {folder.path + "/empty", folder.path + "/nowhere/region", folder.path}) {
    const auto opened = SharedRegion::open(path, 4 * MiB);
    REQUIRE_FALSE(opened.has_value());
    CHECK(opened.error().code == Code::kStorage);
    CHECK_FALSE(opened.error().hint.empty());
  }
}

TEST_CASE("a region of the smallest size becomes a shared tier, and is one still when all have gone") {
  const SharedFolder folder;
  for (uint64_t round = 1; round <= 2; ++round) {
    auto region = SharedRegion::open(folder.file(), 4 * MiB);
    REQUIRE(region.has_value());
    auto tier = SharedTier::attach((*region)->memory(), **region, round);
    REQUIRE(tier.has_value());
    CHECK(tier->book_id() == 1);
    if (round == 1) CHECK(tier->put(self_telling(1, 1, 1000), 0, kNow));
    CHECK(tier->find(key_of(1), kNow));
  }
}

struct Tmpfs {
  SharedFolder folder;
  bool is_mounted = false;
  explicit Tmpfs(const char* size) {
    is_mounted = mount("tmpfs", folder.path.c_str(), "tmpfs", 0, size) == 0;
    if (!is_mounted) MESSAGE("skipped: no tmpfs can be mounted here");
  }
  ~Tmpfs() {
    if (is_mounted) umount2(folder.path.c_str(), MNT_DETACH);
  }
  bool fill(const char* name, off_t bytes) const {
    const int fd = open((folder.path + name).c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    const bool is_there = fallocate(fd, 0, 0, bytes) == 0;
    close(fd);
    return is_there;
  }
};

TEST_CASE("on a full tmpfs of 4 MB puts are refused, nobody is killed, and with space it goes on") {
  const Tmpfs tmpfs("size=4m");
  if (!tmpfs.is_mounted) return;
  auto region = SharedRegion::open(tmpfs.folder.file(), 16 * MiB);
  REQUIRE(region.has_value());
  auto attached = SharedTier::attach((*region)->memory(), **region, 1);
  REQUIRE(attached.has_value());
  SharedTier& tier = *attached;
  const uint64_t fixed = tier.reserved_bytes();
  REQUIRE(tmpfs.fill("/rest", static_cast<off_t>(4 * MiB - (fixed + 4095) / 4096 * 4096)));
  CHECK_FALSE(tier.put(self_telling(1, 1, 1000), 0, kNow));
  CHECK_FALSE(tier.find(key_of(1), kNow));
  CHECK(tier.counts().refused == 1);
  CHECK(tier.counts().unbacked == 1);
  std::filesystem::remove(tmpfs.folder.path + "/rest");
  // Not at once, but without a restart; and then as much as there is.
  const Instant later = kNow + milliseconds(500);
  for (uint64_t number = 0; number < 20'000; ++number) {
    REQUIRE(tier.put(self_telling(number, 1, 1000), 0, later));
    const auto found = tier.find(key_of(number), later);
    REQUIRE(found);
    REQUIRE(is_whole(*found, number));
  }
  CHECK(tier.counts().refused == 1);
  CHECK(tier.reserved_bytes() > 3 * MiB);
  CHECK(tier.reserved_bytes() <= 4 * MiB);
  CHECK(tier.counts().unbacked == 2);
  MESSAGE(tier.reserved_bytes(), " bytes used, ", tier.entries(), " entries");
}

TEST_CASE("where not even the index finds room, opening fails and can be tried again") {
  const Tmpfs tmpfs("size=4m");
  if (!tmpfs.is_mounted) return;
  REQUIRE(tmpfs.fill("/rest", static_cast<off_t>(3 * MiB + 512 * KiB)));
  auto region = SharedRegion::open(tmpfs.folder.file(), 16 * MiB);
  REQUIRE(region.has_value());
  const auto none = SharedTier::attach((*region)->memory(), **region, 1);
  REQUIRE_FALSE(none.has_value());
  CHECK(none.error().code == Code::kStorage);
  std::filesystem::remove(tmpfs.folder.path + "/rest");
  CHECK(SharedTier::attach((*region)->memory(), **region, 1).has_value());
}

}  // namespace
}  // namespace mesh::io
