#include "sidecar/io/gpu/memfd_device.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <bit>
#include <cerrno>
#include <cstring>
#include <map>

namespace mesh::io {
namespace {

// A chunk has its size for good: whoever maps it is not killed by somebody's truncation.
constexpr int kSizeSeals = F_SEAL_SHRINK | F_SEAL_GROW;

tl::unexpected<MemoryError> system_fault(const std::string& what, int number) {
  const MemoryFault fault = number == ENOMEM || number == ENOSPC  ? MemoryFault::kOutOfMemory
                            : number == EPERM || number == EACCES ? MemoryFault::kRefused
                                                                  : MemoryFault::kDriver;
  return memory_fault(fault, what + ": " + std::strerror(number), number);
}

int fd_of(uint64_t handle) { return static_cast<int>(handle); }
void* pointer_to(uint64_t address) { return std::bit_cast<void*>(address); }

}  // namespace

MemoryResult<std::unique_ptr<MemfdDevice>> MemfdDevice::open(const MemfdConfig& config) {
  if (config.total_bytes == 0 || config.total_bytes % kMemoryUnitBytes != 0)
    return memory_fault(MemoryFault::kBadSize, "a card's size is a positive multiple of 2 MiB");
  auto book = MemfdBook::open(config.book_path, config.total_bytes);
  if (!book) return tl::unexpected(book.error());
  return std::unique_ptr<MemfdDevice>(new MemfdDevice(std::move(*book)));
}

const DeviceCaps& MemfdDevice::caps() const {
  const MemfdPlant& plant = book_->plant();
  const bool is_wsl2 = plant.is_wsl2 != 0;
  caps_ = {.name = "files in memory",
           .uuid = "GPU-" + book_->file_name(),
           .total_bytes = plant.total_bytes,
           .can_create = true,
           .can_export = !is_wsl2,
           .tells_processes = !is_wsl2,
           .enforces_read_only = true};
  return caps_;
}

MemoryResult<uint64_t> MemfdDevice::create_handle(uint64_t bytes) {
  OwnedFd file(memfd_create(book_->file_name().c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING));
  struct stat info {};
  if (!file || ftruncate(file.get(), static_cast<off_t>(bytes)) != 0 || fstat(file.get(), &info) != 0 ||
      fcntl(file.get(), F_ADD_SEALS, kSizeSeals) != 0)
    return system_fault("cannot make a file in memory", errno);
  if (!book_->admit(info.st_ino, bytes))
    return memory_fault(MemoryFault::kOutOfMemory, "the card has no " + std::to_string(bytes) + " bytes left");
  return static_cast<uint64_t>(file.release());
}

MemoryResult<void> MemfdDevice::seal_handle(uint64_t handle) {
  if (fcntl(fd_of(handle), F_ADD_SEALS, F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) != 0)
    return system_fault("cannot seal a chunk", errno);
  return {};
}

MemoryResult<OwnedFd> MemfdDevice::export_chunk(const Chunk& chunk) {
  if (!caps().can_export) return memory_fault(MemoryFault::kUnsupported, "this host exports no memory");
  OwnedFd copy(fcntl(fd_of(chunk.handle()), F_DUPFD_CLOEXEC, 0));
  if (!copy) return system_fault("cannot export a chunk", errno);
  return copy;
}

bool MemfdDevice::is_ours(int fd) const {
  char target[300];
  const ssize_t length = readlink(("/proc/self/fd/" + std::to_string(fd)).c_str(), target, sizeof(target));
  const std::string expected = "/memfd:" + book_->file_name() + " (deleted)";
  if (length <= 0 || std::string_view(target, static_cast<size_t>(length)) != expected) return false;
  const int seals = fcntl(fd, F_GET_SEALS);
  return seals >= 0 && (seals & kSizeSeals) == kSizeSeals;
}

MemoryResult<uint64_t> MemfdDevice::import_handle(int fd, uint64_t bytes) {
  if (!caps().can_export) return memory_fault(MemoryFault::kUnsupported, "this host imports no memory");
  if (!is_ours(fd)) return memory_fault(MemoryFault::kWrongKind, "the descriptor is no chunk of this card");
  struct stat info {};
  if (fstat(fd, &info) != 0) return system_fault("cannot import a chunk", errno);
  if (static_cast<uint64_t>(info.st_size) != bytes)
    return memory_fault(MemoryFault::kBadSize,
                        "the chunk has " + std::to_string(info.st_size) + " bytes, not " + std::to_string(bytes));
  const int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (copy < 0) return system_fault("cannot import a chunk", errno);
  return static_cast<uint64_t>(copy);
}

void MemfdDevice::release_handle(uint64_t handle) { close(fd_of(handle)); }

MemoryResult<uint64_t> MemfdDevice::reserve_addresses(uint64_t bytes) {
  void* const at = mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (at == MAP_FAILED) return system_fault("cannot reserve addresses", errno);
  return reinterpret_cast<uint64_t>(at);
}

void MemfdDevice::free_addresses(uint64_t address, uint64_t bytes) { munmap(pointer_to(address), bytes); }

MemoryResult<void> MemfdDevice::map_at(uint64_t address, const Chunk& chunk, Access access, bool touch) {
  const int rights = access == Access::kReadOnly ? PROT_READ : PROT_READ | PROT_WRITE;
  const int flags = MAP_SHARED | MAP_FIXED | (touch ? MAP_POPULATE : 0);
  if (mmap(pointer_to(address), chunk.bytes(), rights, flags, fd_of(chunk.handle()), 0) == MAP_FAILED)
    return system_fault("cannot map a chunk", errno);
  return {};
}

MemoryResult<void> MemfdDevice::unmap_at(uint64_t address, uint64_t bytes) {
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
  if (mmap(pointer_to(address), bytes, PROT_NONE, flags, -1, 0) == MAP_FAILED)
    return system_fault("cannot unmap a chunk", errno);
  return {};
}

DeviceReading MemfdDevice::reading_of(uint64_t used_bytes) {
  const MemfdPlant& plant = book_->plant();
  DeviceReading reading;
  reading.total_bytes = plant.total_bytes;
  reading.used_bytes = used_bytes;
  ThermalReading& thermal = reading.thermal.emplace();
  thermal.temperature_c = plant.temperature_mc / 1000.0;
  thermal.slowdown_c = plant.slowdown_mc / 1000.0;
  thermal.power_w = plant.power_mw / 1000.0;
  thermal.busy = plant.busy_permille / 1000.0;
  thermal.is_slowed_by_heat = plant.is_slowed_by_heat != 0;
  return reading;
}

MemoryResult<DeviceReading> MemfdDevice::query_device() { return reading_of(book_->used_bytes()); }

MemoryResult<std::vector<ProcessUse>> MemfdDevice::query_processes() {
  auto use = query_use();
  if (!use) return tl::unexpected(use.error());
  return std::move(use->processes);
}

// Each look goes through all of /proc.
MemoryResult<DeviceUse> MemfdDevice::query_use() {
  if (!caps().tells_processes)
    return memory_fault(MemoryFault::kUnsupported, "this host does not tell what a process uses");
  std::vector<HeldFile> held;
  DeviceUse use{reading_of(book_->used_bytes(held)), {}};
  std::map<pid_t, uint64_t> bytes_of;
  for (const HeldFile& file : held) bytes_of[file.pid] += file.bytes;
  for (const auto& [pid, bytes] : bytes_of) use.processes.push_back({.pid = pid, .bytes = bytes});
  return use;
}

}  // namespace mesh::io
