#include "sidecar/io/gpu/cuda_driver.h"

#include <dlfcn.h>

namespace mesh::io {
namespace {

struct Symbol {
  const char* name;
  void** place;
};

template <class F>
Symbol symbol(const char* name, F*& function) {
  return {.name = name, .place = reinterpret_cast<void**>(&function)};
}

// Null or the name of what is missing.
const char* load_symbols(CudaDriver& driver) {
  const Symbol symbols[] = {
      symbol("cuInit", driver.init),
      symbol("cuDriverGetVersion", driver.driver_version),
      symbol("cuGetErrorName", driver.error_name),
      symbol("cuDeviceGetCount", driver.device_count),
      symbol("cuDeviceGet", driver.device_get),
      symbol("cuDeviceGetName", driver.device_name),
      symbol("cuDeviceGetUuid_v2", driver.device_uuid),
      symbol("cuDeviceGetAttribute", driver.device_attribute),
      symbol("cuDeviceTotalMem_v2", driver.device_total),
      symbol("cuMemGetAllocationGranularity", driver.granularity),
      symbol("cuMemCreate", driver.create),
      symbol("cuMemRelease", driver.release),
      symbol("cuMemExportToShareableHandle", driver.export_handle),
      symbol("cuMemImportFromShareableHandle", driver.import_handle),
      symbol("cuMemAddressReserve", driver.address_reserve),
      symbol("cuMemAddressFree", driver.address_free),
      symbol("cuMemMap", driver.map),
      symbol("cuMemUnmap", driver.unmap),
      symbol("cuMemSetAccess", driver.set_access),
  };
  for (const Symbol& wanted : symbols) {
    *wanted.place = dlsym(driver.library, wanted.name);
    if (*wanted.place == nullptr) return wanted.name;
  }
  return nullptr;
}

MemoryResult<CudaDriver> load_now() {
  CudaDriver driver{};
  driver.library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (driver.library == nullptr)
    return memory_fault(MemoryFault::kAbsent, std::string("there is no CUDA driver: ") + dlerror());
  if (const char* missing = load_symbols(driver))
    return memory_fault(MemoryFault::kAbsent, std::string("the CUDA driver is too old: it has no ") + missing);
  return driver;
}

}  // namespace

MemoryResult<const CudaDriver*> CudaDriver::load() {
  static const MemoryResult<CudaDriver> kLoaded = load_now();
  if (!kLoaded) return tl::unexpected(kLoaded.error());
  return &*kLoaded;
}

std::string CudaDriver::name_of(CudaStatus status) const {
  const char* name = nullptr;
  if (error_name(status, &name) != 0 || name == nullptr) name = "CUDA_ERROR";
  return std::string(name) + " (" + std::to_string(status) + ")";
}

tl::unexpected<MemoryError> CudaDriver::fault(const std::string& what, CudaStatus status) const {
  MemoryFault fault = MemoryFault::kDriver;
  if (status == kCudaOutOfMemory) fault = MemoryFault::kOutOfMemory;
  if (status == kCudaNoDevice || status == kCudaInvalidDevice) fault = MemoryFault::kAbsent;
  if (status == kCudaNotSupported) fault = MemoryFault::kUnsupported;
  if (status == kCudaNotPermitted) fault = MemoryFault::kRefused;
  return memory_fault(fault, what + ": " + name_of(status), status);
}

}  // namespace mesh::io
