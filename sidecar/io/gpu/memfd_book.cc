#include "sidecar/io/gpu/memfd_book.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <set>

namespace mesh::io {
namespace {

// A card of 24 GiB in units.
constexpr size_t kEntriesMax = 16'384;
constexpr uint64_t kMagic = 0x6d66'6462'6f6f'6b31;

int64_t now_ns() {
  timespec time{};
  clock_gettime(CLOCK_BOOTTIME, &time);
  return time.tv_sec * 1'000'000'000 + time.tv_nsec;
}

struct CloseDirectory {
  void operator()(DIR* directory) const { closedir(directory); }
};
using Directory = std::unique_ptr<DIR, CloseDirectory>;

template <class F>
void for_each_number(const std::string& path, F&& take) {
  const Directory directory(opendir(path.c_str()));
  while (directory != nullptr) {
    const dirent* const entry = readdir(directory.get());
    if (entry == nullptr) return;
    pid_t number = 0;
    const char* const end = entry->d_name + std::strlen(entry->d_name);
    if (std::from_chars(entry->d_name, end, number).ptr == end) take(number);
  }
}

using Sizes = std::set<std::pair<uint64_t, uint64_t>>;  // inode and bytes

void add_open_files(const std::string& process, const std::string& link, Sizes& found) {
  for_each_number(process + "/fd", [&](pid_t number) {
    const std::string path = process + "/fd/" + std::to_string(number);
    char target[300];
    const ssize_t length = readlink(path.c_str(), target, sizeof(target));
    struct stat info {};
    if (length <= 0 || std::string_view(target, static_cast<size_t>(length)) != link) return;
    if (stat(path.c_str(), &info) == 0) found.emplace(info.st_ino, static_cast<uint64_t>(info.st_size));
  });
}

// A line is "from-to rights offset device inode   name". Chunks are mapped whole.
void add_mapped_files(const std::string& process, const std::string& link, Sizes& found) {
  std::ifstream maps(process + "/maps");
  for (std::string line; std::getline(maps, line);) {
    if (!line.ends_with(link)) continue;
    unsigned long long from = 0;
    unsigned long long to = 0;
    unsigned long long inode = 0;
    if (std::sscanf(line.c_str(), "%llx-%llx %*s %*x %*s %llu", &from, &to, &inode) == 3)
      found.emplace(inode, to - from);
  }
}

}  // namespace

struct MemfdBook::Entry {
  uint64_t inode;
  uint64_t bytes;
  int64_t freed_ns;  // when nobody was seen to hold it any more, 0 before
};

struct MemfdBook::Pages {
  std::atomic<uint64_t> magic;
  char name[32];
  MemfdPlant plant;
  uint64_t entry_count;
  Entry entries[kEntriesMax];
};

// A process that dies lets go of a file's lock.
class MemfdBook::Locked {
 public:
  explicit Locked(MemfdBook& book) : guard_(book.mutex_), fd_(book.file_.get()) {
    while (flock(fd_, LOCK_EX) != 0 && errno == EINTR) {
    }
  }
  ~Locked() { flock(fd_, LOCK_UN); }
  Locked(const Locked&) = delete;
  Locked& operator=(const Locked&) = delete;

 private:
  std::lock_guard<std::mutex> guard_;
  int fd_;
};

std::vector<HeldFile> held_files(const std::string& name) {
  const std::string link = "/memfd:" + name + " (deleted)";
  std::vector<HeldFile> held;
  for_each_number("/proc", [&](pid_t pid) {
    const std::string process = "/proc/" + std::to_string(pid);
    Sizes found;
    add_open_files(process, link, found);
    add_mapped_files(process, link, found);
    for (const auto& [inode, bytes] : found) held.push_back({.pid = pid, .inode = inode, .bytes = bytes});
  });
  return held;
}

MemoryResult<std::unique_ptr<MemfdBook>> MemfdBook::open(const std::string& path, uint64_t total_bytes) {
  OwnedFd file(path.empty() ? memfd_create("mesh-gpu-book", MFD_CLOEXEC)
                            : ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  const auto failed = [&](int number) {
    return memory_fault(MemoryFault::kDriver, "cannot keep a book of the card: " + std::string(std::strerror(number)),
                        number);
  };
  if (!file || flock(file.get(), LOCK_EX) != 0) return failed(errno);
  if (ftruncate(file.get(), sizeof(Pages)) != 0) return failed(errno);
  void* const at = mmap(nullptr, sizeof(Pages), PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
  if (at == MAP_FAILED) return failed(errno);
  auto* const pages = static_cast<Pages*>(at);
  if (pages->magic.load() != kMagic) {
    uint64_t number = 0;
    if (getrandom(&number, sizeof(number), 0) != sizeof(number)) number = static_cast<uint64_t>(now_ns());
    std::snprintf(pages->name, sizeof(pages->name), "mesh-gpu-%016llx", static_cast<unsigned long long>(number));
    pages->plant.total_bytes = total_bytes;
    pages->plant.temperature_mc = 40'000;
    pages->plant.slowdown_mc = 90'000;
    pages->plant.power_mw = 60'000;
    pages->magic.store(kMagic);
  }
  flock(file.get(), LOCK_UN);
  return std::unique_ptr<MemfdBook>(new MemfdBook(std::move(file), pages));
}

MemfdBook::~MemfdBook() { munmap(pages_, sizeof(Pages)); }

MemfdPlant& MemfdBook::plant() { return pages_->plant; }

std::string MemfdBook::file_name() const { return pages_->name; }

uint64_t MemfdBook::sum() const {
  uint64_t bytes = pages_->plant.foreign_bytes;
  for (size_t i = 0; i < pages_->entry_count; ++i) bytes += pages_->entries[i].bytes;
  return bytes;
}

void MemfdBook::strike_out_freed(const std::vector<HeldFile>& held_now) {
  std::set<uint64_t> held;
  for (const HeldFile& file : held_now) held.insert(file.inode);
  const int64_t now = now_ns();
  const int64_t delay_ns = int64_t{pages_->plant.free_delay_ms} * 1'000'000;
  size_t kept = 0;
  for (size_t i = 0; i < pages_->entry_count; ++i) {
    Entry entry = pages_->entries[i];
    if (held.contains(entry.inode)) {
      entry.freed_ns = 0;
    } else if (entry.freed_ns == 0) {
      entry.freed_ns = now;
    }
    if (entry.freed_ns == 0 || now - entry.freed_ns < delay_ns) pages_->entries[kept++] = entry;
  }
  pages_->entry_count = kept;
}

bool MemfdBook::admit(uint64_t inode, uint64_t bytes) {
  const Locked locked(*this);
  std::atomic<uint32_t>& failures = pages_->plant.creates_to_fail;
  if (failures > 0) {
    --failures;
    return false;
  }
  const auto fits = [&] {
    const uint64_t used = sum();
    const uint64_t total = pages_->plant.total_bytes;
    return pages_->entry_count < kEntriesMax && used <= total && bytes <= total - used;
  };
  // Nobody tells when memory is freed, so whoever finds the card full looks.
  if (!fits()) strike_out_freed(held_files(file_name()));
  if (!fits()) return false;
  pages_->entries[pages_->entry_count] = {.inode = inode, .bytes = bytes, .freed_ns = 0};
  ++pages_->entry_count;
  return true;
}

uint64_t MemfdBook::used_bytes() {
  std::vector<HeldFile> held;
  return used_bytes(held);
}

uint64_t MemfdBook::used_bytes(std::vector<HeldFile>& held) {
  const Locked locked(*this);
  held = held_files(file_name());
  strike_out_freed(held);
  return sum();
}

}  // namespace mesh::io
