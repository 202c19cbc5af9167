#include "sidecar/io/gpu/cuda_device.h"

#include <fcntl.h>

#include <bit>

namespace mesh::io {
namespace {

std::string text_of(const CudaUuid& uuid) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text = "GPU-";
  for (size_t i = 0; i < sizeof(uuid.bytes); ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    text += kDigits[uuid.bytes[i] >> 4];
    text += kDigits[uuid.bytes[i] & 15];
  }
  return text;
}

}  // namespace

MemoryResult<std::unique_ptr<CudaDevice>> CudaDevice::open(const CudaConfig& config) {
  const auto driver = CudaDriver::load();
  if (!driver) return tl::unexpected(driver.error());
  if (const CudaStatus status = (*driver)->init(0)) return (*driver)->fault("cuInit", status);
  std::unique_ptr<CudaDevice> device(new CudaDevice(**driver));
  if (const auto learnt = device->learn(config.ordinal); !learnt) return tl::unexpected(learnt.error());
  if (config.watches) {
    device->open_nvml();
  } else {
    device->why_unwatched_ = {.fault = MemoryFault::kUnsupported, .text = "queries were not asked for"};
  }
  return device;
}

MemoryResult<void> CudaDevice::learn(int ordinal) {
  if (const CudaStatus status = driver_.device_get(&device_, ordinal)) return driver_.fault("cuDeviceGet", status);
  char name[256] = {};
  CudaUuid uuid{};
  size_t total_bytes = 0;
  int has_vmm = 0;
  int exports_fds = 0;
  if (const CudaStatus status = driver_.device_name(name, sizeof(name) - 1, device_))
    return driver_.fault("cuDeviceGetName", status);
  if (const CudaStatus status = driver_.device_uuid(&uuid, device_)) return driver_.fault("cuDeviceGetUuid", status);
  if (const CudaStatus status = driver_.device_total(&total_bytes, device_))
    return driver_.fault("cuDeviceTotalMem", status);
  // An attribute that the driver does not know is one the device does not have.
  if (driver_.device_attribute(&has_vmm, kCudaHasVmm, device_) != 0) has_vmm = 0;
  if (driver_.device_attribute(&exports_fds, kCudaExportsFds, device_) != 0) exports_fds = 0;
  caps_ = {.name = name,
           .uuid = text_of(uuid),
           .total_bytes = total_bytes,
           .can_create = has_vmm != 0,
           .can_export = has_vmm != 0 && exports_fds != 0,
           .tells_processes = false,
           .enforces_read_only = false};
  return caps_.can_create ? learn_granularity() : MemoryResult<void>();
}

MemoryResult<void> CudaDevice::learn_granularity() {
  size_t bytes = 0;
  const CudaAllocationProperties wanted = properties();
  if (const CudaStatus status = driver_.granularity(&bytes, &wanted, 0))
    return driver_.fault("cuMemGetAllocationGranularity", status);
  granularity_bytes_ = bytes;
  if (bytes == 0 || kMemoryUnitBytes % bytes != 0)
    return memory_fault(MemoryFault::kUnsupported, "the driver wants units of " + std::to_string(bytes) + " bytes");
  return {};
}

void CudaDevice::open_nvml() {
  auto nvml = Nvml::open();
  if (!nvml) {
    why_unwatched_ = nvml.error();
    return;
  }
  auto watched = (*nvml)->find(caps_.uuid);
  if (!watched) {
    why_unwatched_ = watched.error();
    return;
  }
  nvml_ = std::move(*nvml);
  watched_ = *watched;
  const auto processes = nvml_->processes(*watched_);
  caps_.tells_processes = processes.has_value();
}

CudaAllocationProperties CudaDevice::properties() const {
  CudaAllocationProperties wanted;
  wanted.handle_types = caps_.can_export ? kCudaHandleIsFd : 0;
  wanted.location.id = device_;
  return wanted;
}

MemoryResult<uint64_t> CudaDevice::create_handle(uint64_t bytes) {
  if (!caps_.can_create) return memory_fault(MemoryFault::kUnsupported, "this device has no virtual memory interface");
  CudaHandle handle = 0;
  const CudaAllocationProperties wanted = properties();
  if (const CudaStatus status = driver_.create(&handle, bytes, &wanted, 0)) return driver_.fault("cuMemCreate", status);
  return handle;
}

MemoryResult<OwnedFd> CudaDevice::export_chunk(const Chunk& chunk) {
  if (!caps_.can_export) return memory_fault(MemoryFault::kUnsupported, "this device exports no memory");
  int fd = -1;
  if (const CudaStatus status = driver_.export_handle(&fd, chunk.handle(), kCudaHandleIsFd, 0))
    return driver_.fault("cuMemExportToShareableHandle", status);
  OwnedFd exported(fd);
  // Memory must not be kept by programs that somebody starts.
  const int flags = fcntl(fd, F_GETFD);
  if (flags < 0 || fcntl(fd, F_SETFD, flags | FD_CLOEXEC) != 0)
    return memory_fault(MemoryFault::kDriver, "the driver exported no descriptor");
  return exported;
}

MemoryResult<uint64_t> CudaDevice::import_handle(int fd, uint64_t) {
  if (!caps_.can_export) return memory_fault(MemoryFault::kUnsupported, "this device imports no memory");
  if (fcntl(fd, F_GETFD) < 0) return memory_fault(MemoryFault::kWrongKind, "this is no open descriptor");
  CudaHandle handle = 0;
  void* const shareable = std::bit_cast<void*>(static_cast<uintptr_t>(fd));
  if (const CudaStatus status = driver_.import_handle(&handle, shareable, kCudaHandleIsFd)) {
    auto fault = driver_.fault("cuMemImportFromShareableHandle", status);
    if (fault.value().fault == MemoryFault::kDriver) fault.value().fault = MemoryFault::kWrongKind;
    return fault;
  }
  return handle;
}

// The driver has no such thing: the handle itself refuses, and others are trusted to.
MemoryResult<void> CudaDevice::seal_handle(uint64_t) { return {}; }

void CudaDevice::release_handle(uint64_t handle) { (void)driver_.release(handle); }

MemoryResult<uint64_t> CudaDevice::reserve_addresses(uint64_t bytes) {
  CudaAddress address = 0;
  if (const CudaStatus status = driver_.address_reserve(&address, bytes, kMemoryUnitBytes, 0, 0))
    return driver_.fault("cuMemAddressReserve", status);
  return address;
}

void CudaDevice::free_addresses(uint64_t address, uint64_t bytes) { (void)driver_.address_free(address, bytes); }

MemoryResult<void> CudaDevice::map_at(uint64_t address, const Chunk& chunk, Access access, bool) {
  if (const CudaStatus status = driver_.map(address, chunk.bytes(), 0, chunk.handle(), 0)) {
    auto fault = driver_.fault("cuMemMap", status);
    // Everything else about the call was checked: what is left is a chunk of another size.
    if (status == kCudaInvalidValue) fault.value().fault = MemoryFault::kBadSize;
    return fault;
  }
  CudaAccess wanted;
  wanted.location.id = device_;
  wanted.flags = access == Access::kReadOnly ? kCudaReads : kCudaReadsAndWrites;
  const CudaStatus status = driver_.set_access(address, chunk.bytes(), &wanted, 1);
  if (status == 0) return {};
  (void)driver_.unmap(address, chunk.bytes());
  return driver_.fault("cuMemSetAccess", status);
}

MemoryResult<void> CudaDevice::unmap_at(uint64_t address, uint64_t bytes) {
  if (const CudaStatus status = driver_.unmap(address, bytes)) return driver_.fault("cuMemUnmap", status);
  return {};
}

MemoryResult<DeviceReading> CudaDevice::query_device() {
  if (!watched_) return tl::unexpected(why_unwatched_);
  return nvml_->read(*watched_);
}

MemoryResult<std::vector<ProcessUse>> CudaDevice::query_processes() {
  if (!watched_) return tl::unexpected(why_unwatched_);
  return nvml_->processes(*watched_);
}

}  // namespace mesh::io
