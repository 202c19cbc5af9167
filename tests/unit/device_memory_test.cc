// What DeviceMemory means, with files in memory: who counts, what survives whom, and what is refused.

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <functional>
#include <string>

#include "sidecar/io/gpu/memfd_device.h"
#include "tests/unit/shared_folder.h"

namespace mesh::io {
namespace {

constexpr uint64_t kUnit = kMemoryUnitBytes;

std::unique_ptr<MemfdDevice> card_of(uint64_t units, const std::string& book_path = {}) {
  auto opened = MemfdDevice::open({.total_bytes = units * kUnit, .book_path = book_path});
  REQUIRE(opened.has_value());
  return std::move(*opened);
}

uint64_t used_units(MemfdDevice& card) { return card.query_device()->used_bytes / kUnit; }

template <class T>
MemoryFault fault_of(const MemoryResult<T>& result) {
  REQUIRE(!result.has_value());
  CHECK(!result.error().text.empty());
  return result.error().fault;
}

template <class T>
T must(MemoryResult<T> result) {
  REQUIRE_MESSAGE(result.has_value(), (result ? "" : result.error().text));
  return std::move(*result);
}

struct Mapped {
  AddressRange range;
  char* bytes() const { return reinterpret_cast<char*>(range.address()); }
};

Mapped mapped(MemfdDevice& card, const Chunk& chunk, Access access = Access::kReadWrite, bool touch = false) {
  Mapped at{must(card.reserve(chunk.bytes()))};
  REQUIRE(card.map(at.range, 0, chunk, access, touch).has_value());
  return at;
}

size_t open_descriptors() {
  const std::filesystem::directory_iterator entries("/proc/self/fd");
  return static_cast<size_t>(std::distance(begin(entries), end(entries)));
}

// Does something, tells that it is done, and waits to be killed. Checks in it are not seen: it says "y" or "n".
class Child {
 public:
  explicit Child(const std::function<bool(int socket)>& act) {
    int ends[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
    socket_.reset(ends[0]);
    const OwnedFd theirs(ends[1]);
    pid_ = fork();
    if (pid_ != 0) return;
    socket_.reset();
    const char done = act(theirs.get()) ? 'y' : 'n';
    (void)!write(theirs.get(), &done, 1);
    while (true) pause();
  }
  ~Child() { kill(); }
  bool did() {
    char done = 0;
    return read(socket_.get(), &done, 1) == 1 && done == 'y';
  }
  OwnedFd take_fd() {
    char byte = 0;
    iovec piece{.iov_base = &byte, .iov_len = 1};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
    msghdr message{};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    REQUIRE(recvmsg(socket_.get(), &message, MSG_CMSG_CLOEXEC) == 1);
    int fd = -1;
    std::memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(fd));
    return OwnedFd(fd);
  }
  void kill() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }
  pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = -1;
  OwnedFd socket_;
};

bool send_fd(int socket, int fd) {
  char byte = 'f';
  iovec piece{.iov_base = &byte, .iov_len = 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  cmsghdr* const head = CMSG_FIRSTHDR(&message);
  head->cmsg_level = SOL_SOCKET;
  head->cmsg_type = SCM_RIGHTS;
  head->cmsg_len = CMSG_LEN(sizeof(int));
  std::memcpy(CMSG_DATA(head), &fd, sizeof(fd));
  return sendmsg(socket, &message, 0) == 1;
}

TEST_CASE("a card gives no more than it has, and what is released can be had again") {
  const auto card = card_of(4);
  Chunk large = must(card->create(3 * kUnit));
  const Chunk small = must(card->create(kUnit));
  CHECK(fault_of(card->create(kUnit)) == MemoryFault::kOutOfMemory);
  large.release();
  CHECK(used_units(*card) == 1);
  CHECK(fault_of(card->create(4 * kUnit)) == MemoryFault::kOutOfMemory);
  CHECK(card->create(3 * kUnit).has_value());
}

TEST_CASE("memory is used as long as anybody has a chunk, a descriptor or a mapping of it") {
  const auto card = card_of(4);
  Chunk chunk = must(card->create(2 * kUnit));
  OwnedFd fd = must(card->export_chunk(chunk));
  Chunk imported = must(card->import_chunk(fd.get(), 2 * kUnit));
  Mapped at = mapped(*card, imported);
  for (const auto& let_go : std::vector<std::function<void()>>{
           [&] { chunk.release(); }, [&] { fd.reset(); }, [&] { imported.release(); }, [&] { at.range.release(); }}) {
    CHECK(used_units(*card) == 2);
    let_go();
  }
  CHECK(used_units(*card) == 0);
}

TEST_CASE("what was written is read through every mapping, whoever made it") {
  const auto card = card_of(2);
  const Chunk chunk = must(card->create(kUnit));
  const Mapped writer = mapped(*card, chunk);
  const OwnedFd fd = must(card->export_chunk(chunk));
  const Chunk imported = must(card->import_chunk(fd.get(), kUnit));
  const Mapped reader = mapped(*card, imported, Access::kReadOnly);
  std::strcpy(writer.bytes() + kUnit - 8, "weights");
  CHECK(std::string(reader.bytes() + kUnit - 8) == "weights");
}

TEST_CASE("the content survives the kill -9 of whoever wrote it, and the memory is back when nobody has it") {
  const SharedFolder folder;
  const auto card = card_of(4, folder.file());
  Child writer([&](int socket) {
    const auto theirs = MemfdDevice::open({.total_bytes = kUnit, .book_path = folder.file()});
    if (!theirs) return false;
    auto chunk = (*theirs)->create(2 * kUnit);
    auto range = (*theirs)->reserve(2 * kUnit);
    if (!chunk || !range || !(*theirs)->map(*range, 0, *chunk, Access::kReadWrite)) return false;
    std::strcpy(reinterpret_cast<char*>(range->address()), "left behind");
    const auto fd = (*theirs)->export_chunk(*chunk);
    if (!fd || !send_fd(socket, fd->get())) return false;
    while (true) pause();
  });
  OwnedFd fd = writer.take_fd();
  CHECK(card->query_process(writer.pid()) == 2 * kUnit);
  writer.kill();
  CHECK(card->query_process(writer.pid()) == 0U);
  CHECK(used_units(*card) == 2);
  {
    const Chunk chunk = must(card->import_chunk(fd.get(), 2 * kUnit));
    CHECK(std::string(mapped(*card, chunk, Access::kReadOnly).bytes()) == "left behind");
  }
  CHECK(used_units(*card) == 2);
  fd.reset();
  CHECK(used_units(*card) == 0);
}

TEST_CASE("processes that race for the last of a card get exactly what there is") {
  const SharedFolder folder;
  const auto card = card_of(5, folder.file());
  std::vector<std::unique_ptr<Child>> children;
  for (int i = 0; i < 12; ++i) {
    children.push_back(std::make_unique<Child>([&](int) {
      static const auto theirs = MemfdDevice::open({.total_bytes = kUnit, .book_path = folder.file()});
      static const MemoryResult<Chunk> chunk = (*theirs)->create(kUnit);
      return chunk.has_value();
    }));
  }
  const auto got = std::count_if(children.begin(), children.end(), [](const auto& child) { return child->did(); });
  CHECK(got == 5);
  CHECK(used_units(*card) == 5);
  children.clear();
  CHECK(card->create(5 * kUnit).has_value());
}

TEST_CASE("a sealed chunk can be read by all and written by nobody who did not before") {
  const auto card = card_of(2);
  Chunk chunk = must(card->create(kUnit));
  const Mapped before = mapped(*card, chunk);
  const OwnedFd fd = must(card->export_chunk(chunk));
  const Chunk imported = must(card->import_chunk(fd.get(), kUnit));
  REQUIRE(card->seal(chunk).has_value());
  AddressRange range = must(card->reserve(kUnit));
  CHECK(fault_of(card->map(range, 0, chunk, Access::kReadWrite)) == MemoryFault::kRefused);
  CHECK(fault_of(card->map(range, 0, imported, Access::kReadWrite)) == MemoryFault::kRefused);
  REQUIRE(card->map(range, 0, imported, Access::kReadOnly).has_value());
  before.bytes()[5] = 'x';
  CHECK(reinterpret_cast<const char*>(range.address())[5] == 'x');
  CHECK(write(fd.get(), "y", 1) == -1);
  CHECK(mprotect(reinterpret_cast<void*>(range.address()), kUnit, PROT_READ | PROT_WRITE) == -1);
}

TEST_CASE("nobody who has a chunk can take its memory away by truncating it") {
  const auto card = card_of(2);
  const Chunk chunk = must(card->create(kUnit));
  const OwnedFd fd = must(card->export_chunk(chunk));
  CHECK(ftruncate(fd.get(), 0) == -1);
  CHECK(errno == EPERM);
  CHECK(ftruncate(fd.get(), 2 * kUnit) == -1);
}

TEST_CASE("a descriptor that is no chunk of this card is told apart from one of another size") {
  const auto card = card_of(4);
  const auto other = card_of(4);
  const Chunk chunk = must(card->create(2 * kUnit));
  const OwnedFd fd = must(card->export_chunk(chunk));
  const OwnedFd null(open("/dev/null", O_RDWR | O_CLOEXEC));
  const OwnedFd unsealed(memfd_create(card->caps().uuid.substr(4).c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING));
  REQUIRE(ftruncate(unsealed.get(), 2 * kUnit) == 0);
  CHECK(fault_of(other->import_chunk(fd.get(), 2 * kUnit)) == MemoryFault::kWrongKind);
  CHECK(fault_of(card->import_chunk(null.get(), 2 * kUnit)) == MemoryFault::kWrongKind);
  CHECK(fault_of(card->import_chunk(unsealed.get(), 2 * kUnit)) == MemoryFault::kWrongKind);
  CHECK(fault_of(card->import_chunk(-1, 2 * kUnit)) == MemoryFault::kWrongKind);
  CHECK(fault_of(card->import_chunk(fd.get(), kUnit)) == MemoryFault::kBadSize);
  CHECK(fault_of(card->import_chunk(fd.get(), 4 * kUnit)) == MemoryFault::kBadSize);
  CHECK(card->import_chunk(fd.get(), 2 * kUnit).has_value());
}

TEST_CASE("sizes and offsets that are not in units of 2 MiB are refused") {
  const auto card = card_of(4);
  CHECK(fault_of(MemfdDevice::open({.total_bytes = kUnit + 1})) == MemoryFault::kBadSize);
  CHECK(fault_of(card->create(0)) == MemoryFault::kBadSize);
  CHECK(fault_of(card->create(kUnit + 4096)) == MemoryFault::kBadSize);
  CHECK(fault_of(card->reserve(kUnit - 1)) == MemoryFault::kBadSize);
  const Chunk chunk = must(card->create(kUnit));
  AddressRange range = must(card->reserve(2 * kUnit));
  CHECK(fault_of(card->map(range, 4096, chunk, Access::kReadWrite)) == MemoryFault::kBadSize);
}

TEST_CASE("chunks are mapped side by side, never over one another nor beyond the addresses") {
  const auto card = card_of(4);
  const Chunk first = must(card->create(kUnit));
  const Chunk second = must(card->create(2 * kUnit));
  AddressRange range = must(card->reserve(3 * kUnit));
  REQUIRE(card->map(range, 0, first, Access::kReadWrite).has_value());
  CHECK(fault_of(card->map(range, 0, second, Access::kReadWrite)) == MemoryFault::kRefused);
  CHECK(fault_of(card->map(range, 2 * kUnit, second, Access::kReadWrite)) == MemoryFault::kBadSize);
  CHECK(fault_of(card->map(range, ~uint64_t{0} - kUnit + 1, second, Access::kReadWrite)) == MemoryFault::kBadSize);
  REQUIRE(card->map(range, kUnit, second, Access::kReadWrite).has_value());
  CHECK(fault_of(card->unmap(range, 2 * kUnit)) == MemoryFault::kRefused);
  std::memset(reinterpret_cast<void*>(range.address()), 'z', 3 * kUnit);
  REQUIRE(card->unmap(range, 0).has_value());
  CHECK(*reinterpret_cast<const char*>(range.address() + kUnit) == 'z');
  CHECK(card->map(range, 0, first, Access::kReadOnly).has_value());
}

TEST_CASE("memory is brought in when it is mapped if that is wanted, and else when it is used") {
  const auto card = card_of(4);
  const auto resident_pages = [](const Mapped& at) {
    std::vector<unsigned char> pages(kUnit / 4096);
    REQUIRE(mincore(at.bytes(), kUnit, pages.data()) == 0);
    return std::count_if(pages.begin(), pages.end(), [](unsigned char page) { return (page & 1) != 0; });
  };
  const Chunk lazy = must(card->create(kUnit));
  const Chunk touched = must(card->create(kUnit));
  CHECK(resident_pages(mapped(*card, lazy)) == 0);
  CHECK(resident_pages(mapped(*card, touched, Access::kReadWrite, true)) == 512);
}

TEST_CASE("no descriptor is left of anything, whether it succeeded, failed or was moved") {
  const auto card = card_of(8);
  const size_t before = open_descriptors();
  for (int i = 0; i < 20; ++i) {
    Chunk chunk = must(card->create(kUnit));
    const OwnedFd fd = must(card->export_chunk(chunk));
    Chunk imported = must(card->import_chunk(fd.get(), kUnit));
    const Mapped at = mapped(*card, imported);
    CHECK(!card->import_chunk(fd.get(), 2 * kUnit).has_value());
    CHECK(!card->create(8 * kUnit).has_value());
    Chunk moved = std::move(chunk);
    moved = std::move(imported);
    CHECK(moved.bytes() == kUnit);
    CHECK(!imported);
  }
  CHECK(open_descriptors() == before);
  CHECK(used_units(*card) == 0);
}

}  // namespace
}  // namespace mesh::io
