// The memory of one GPU as the arbiter and those who hold its chunks see it, with two implementations that mean the
// same: a driver's (CudaDevice), and files in memory with the size of a card (MemfdDevice).
//
// Physical memory comes in chunks, apart from the addresses it is seen at. A chunk is exported as a descriptor, which
// carries it to another process, where it is imported. The kernel counts who holds it: every chunk, every descriptor
// and every mapping does, in any process, and the last one gone the memory is free, with whoever created it alive or
// not. Nothing takes it away from who holds it: not its creator, and no truncation, which a driver does not know.
//
// All calls are synchronous and may take milliseconds, so they belong on a worker. One device is used by one thread at
// a time, and outlives everything that came from it.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <utility>
#include <vector>

#include "sidecar/io/gpu/owned_fd.h"

namespace mesh::io {

// Sizes and offsets are multiples of this.
inline constexpr uint64_t kMemoryUnitBytes = uint64_t{2} << 20;

// Each is for a caller that would act differently.
enum class MemoryFault : uint8_t {
  kAbsent,       // there is no such device or library: a fact about the host
  kUnsupported,  // this device, or this host (WSL2), cannot do that
  kOutOfMemory,  // not enough memory is free now
  kBadSize,      // not in units, or not the size the chunk has
  kWrongKind,    // the descriptor is no chunk of this device
  kRefused,      // sealed against it, or the addresses are in use
  kDriver,       // anything else; the text names it
};
std::string_view to_string(MemoryFault fault);

struct MemoryError {
  MemoryFault fault = MemoryFault::kDriver;
  std::string text;  // one sentence for people
  int driver = 0;    // the driver's number or errno; 0 if it was not asked
};

template <class T>
using MemoryResult = tl::expected<T, MemoryError>;

tl::unexpected<MemoryError> memory_fault(MemoryFault fault, std::string text, int driver = 0);

enum class Access : uint8_t { kReadOnly, kReadWrite };

struct DeviceCaps {
  std::string name;
  std::string uuid;  // as NVML writes it, "GPU-…"
  uint64_t total_bytes = 0;
  bool can_create = false;          // chunks apart from addresses; without it there are accounted leases only
  bool can_export = false;          // chunks as descriptors
  bool tells_processes = false;     // query_processes() knows who uses how much
  bool enforces_read_only = false;  // against a process that does not want to keep to it
};

struct ThermalReading {
  double temperature_c = 0;
  std::optional<double> slowdown_c;  // at which the hardware slows down
  std::optional<double> power_w;
  std::optional<double> busy;  // part of the last sampling period with a kernel running, 0 to 1
  bool is_slowed_by_heat = false;
};

struct DeviceReading {
  uint64_t total_bytes = 0;
  uint64_t used_bytes = 0;               // by all processes; the driver's own is apart
  std::optional<uint64_t> driver_bytes;  // kept by the driver for itself
  std::optional<ThermalReading> thermal;
};

struct ProcessUse {
  pid_t pid = 0;
  uint64_t bytes = 0;
};

struct DeviceUse {
  DeviceReading device;
  std::vector<ProcessUse> processes;
};

class DeviceMemory;

// Physical memory. Whoever maps it may release it before unmapping.
class Chunk {
 public:
  Chunk() = default;
  Chunk(DeviceMemory* device, uint64_t handle, uint64_t bytes) : device_(device), handle_(handle), bytes_(bytes) {}
  ~Chunk() { release(); }
  Chunk(Chunk&& other) noexcept { swap(other); }
  Chunk& operator=(Chunk&& other) noexcept {
    Chunk taken(std::move(other));
    swap(taken);
    return *this;
  }

  explicit operator bool() const { return device_ != nullptr; }
  uint64_t bytes() const { return bytes_; }
  uint64_t handle() const { return handle_; }    // the implementation's own
  bool is_sealed() const { return is_sealed_; }  // by this process
  void release();

 private:
  friend class DeviceMemory;
  void swap(Chunk& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(handle_, other.handle_);
    std::swap(bytes_, other.bytes_);
    std::swap(is_sealed_, other.is_sealed_);
  }
  DeviceMemory* device_ = nullptr;
  uint64_t handle_ = 0;
  uint64_t bytes_ = 0;
  bool is_sealed_ = false;
};

// A range of addresses of this process, in which chunks are mapped.
class AddressRange {
 public:
  AddressRange() = default;
  AddressRange(DeviceMemory* device, uint64_t address, uint64_t bytes)
      : device_(device), address_(address), bytes_(bytes) {}
  ~AddressRange() { release(); }
  AddressRange(AddressRange&& other) noexcept { swap(other); }
  AddressRange& operator=(AddressRange&& other) noexcept {
    AddressRange taken(std::move(other));
    swap(taken);
    return *this;
  }

  explicit operator bool() const { return device_ != nullptr; }
  uint64_t address() const { return address_; }  // a kernel's pointer, or with MemfdDevice one of the processor's
  uint64_t bytes() const { return bytes_; }
  // Unmaps what is mapped, and gives the addresses back.
  void release();

 private:
  friend class DeviceMemory;
  struct Piece {
    uint64_t offset;
    uint64_t bytes;
  };
  bool overlaps(uint64_t offset, uint64_t bytes) const;
  void swap(AddressRange& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(address_, other.address_);
    std::swap(bytes_, other.bytes_);
    std::swap(pieces_, other.pieces_);
  }
  DeviceMemory* device_ = nullptr;
  uint64_t address_ = 0;
  uint64_t bytes_ = 0;
  std::vector<Piece> pieces_;
};

class DeviceMemory {
 public:
  DeviceMemory() = default;
  virtual ~DeviceMemory() = default;
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  // Valid as long as the device.
  virtual const DeviceCaps& caps() const = 0;

  // New memory; what is in it is undefined. kOutOfMemory if the card is full.
  MemoryResult<Chunk> create(uint64_t bytes);
  // From now on nobody can map it writable who does not have it mapped so already. For good: a sealed chunk is released
  // and not used for other things. Without caps().enforces_read_only it holds for this chunk of this process alone.
  MemoryResult<void> seal(Chunk& chunk);
  // The descriptor is the caller's.
  virtual MemoryResult<OwnedFd> export_chunk(const Chunk& chunk) = 0;
  // The descriptor stays the caller's, and may be closed afterwards. `bytes` is what the exporter said: a wrong size is
  // kBadSize, here or, where the driver cannot tell, when it is mapped.
  MemoryResult<Chunk> import_chunk(int fd, uint64_t bytes);

  MemoryResult<AddressRange> reserve(uint64_t bytes);
  // The whole chunk at that offset of the range. `touch` brings it in now where memory is mapped lazily.
  MemoryResult<void> map(AddressRange& range, uint64_t offset, const Chunk& chunk, Access access, bool touch = false);
  // What was mapped at that offset. Nothing of the device may be using it any more.
  MemoryResult<void> unmap(AddressRange& range, uint64_t offset);

  virtual MemoryResult<DeviceReading> query_device() = 0;
  // Who uses how much, as far as this host tells: kUnsupported where it does not.
  virtual MemoryResult<std::vector<ProcessUse>> query_processes() = 0;
  // Both, as of one moment: what a process frees between two looks is nobody's, and would look like a stranger's.
  virtual MemoryResult<DeviceUse> query_use();
  // 0 if the process uses nothing.
  MemoryResult<uint64_t> query_process(pid_t pid);

 protected:
  friend class Chunk;
  friend class AddressRange;
  // Sizes and offsets were checked.
  virtual MemoryResult<uint64_t> create_handle(uint64_t bytes) = 0;
  virtual MemoryResult<uint64_t> import_handle(int fd, uint64_t bytes) = 0;
  virtual MemoryResult<void> seal_handle(uint64_t handle) = 0;
  virtual void release_handle(uint64_t handle) = 0;
  virtual MemoryResult<uint64_t> reserve_addresses(uint64_t bytes) = 0;
  virtual void free_addresses(uint64_t address, uint64_t bytes) = 0;
  virtual MemoryResult<void> map_at(uint64_t address, const Chunk& chunk, Access access, bool touch) = 0;
  virtual MemoryResult<void> unmap_at(uint64_t address, uint64_t bytes) = 0;
};

}  // namespace mesh::io
