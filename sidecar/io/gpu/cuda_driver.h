// The driver's library as far as it is needed here, opened while running: our own declarations of a binary interface
// that has not changed since CUDA 11. Private to sidecar/io/gpu, except for tests.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>

#include "sidecar/io/gpu/device_memory.h"

namespace mesh::io {

using CudaStatus = int;  // CUresult; 0 is success
using CudaAddress = unsigned long long;
using CudaHandle = unsigned long long;  // CUmemGenericAllocationHandle

inline constexpr CudaStatus kCudaInvalidValue = 1;
inline constexpr CudaStatus kCudaOutOfMemory = 2;
inline constexpr CudaStatus kCudaNoDevice = 100;
inline constexpr CudaStatus kCudaInvalidDevice = 101;
inline constexpr CudaStatus kCudaNotPermitted = 800;
inline constexpr CudaStatus kCudaNotSupported = 801;

inline constexpr int kCudaHasVmm = 102;      // CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED
inline constexpr int kCudaExportsFds = 103;  // CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED
inline constexpr int kCudaHandleIsFd = 1;    // CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR
inline constexpr int kCudaReads = 1;         // CU_MEM_ACCESS_FLAGS_PROT_READ
inline constexpr int kCudaReadsAndWrites = 3;

struct CudaLocation {
  int type = 1;  // CU_MEM_LOCATION_TYPE_DEVICE
  int id = 0;
};

struct CudaAllocationProperties {
  int type = 1;  // CU_MEM_ALLOCATION_TYPE_PINNED
  int handle_types = 0;
  CudaLocation location;
  void* win32_meta_data = nullptr;
  unsigned char compression = 0;
  unsigned char is_rdma_capable = 0;
  unsigned short usage = 0;
  unsigned char reserved[4] = {};
};
static_assert(sizeof(CudaAllocationProperties) == 32);
static_assert(std::is_standard_layout_v<CudaAllocationProperties>);

struct CudaAccess {
  CudaLocation location;
  int flags = 0;
};
static_assert(sizeof(CudaAccess) == 12);

struct CudaUuid {
  unsigned char bytes[16];
};

// Whoever owns memory needs no more than this, and no context.
struct CudaDriver {
  CudaStatus (*init)(unsigned flags);
  CudaStatus (*driver_version)(int* version);
  CudaStatus (*error_name)(CudaStatus status, const char** name);
  CudaStatus (*device_count)(int* count);
  CudaStatus (*device_get)(int* device, int ordinal);
  CudaStatus (*device_name)(char* name, int size, int device);
  CudaStatus (*device_uuid)(CudaUuid* uuid, int device);
  CudaStatus (*device_attribute)(int* value, int attribute, int device);
  CudaStatus (*device_total)(size_t* bytes, int device);
  CudaStatus (*granularity)(size_t* bytes, const CudaAllocationProperties* properties, int is_recommended);
  CudaStatus (*create)(CudaHandle* handle, size_t bytes, const CudaAllocationProperties* properties,
                       unsigned long long flags);
  CudaStatus (*release)(CudaHandle handle);
  CudaStatus (*export_handle)(void* shareable, CudaHandle handle, int handle_type, unsigned long long flags);
  CudaStatus (*import_handle)(CudaHandle* handle, void* shareable, int handle_type);
  CudaStatus (*address_reserve)(CudaAddress* address, size_t bytes, size_t alignment, CudaAddress wished,
                                unsigned long long flags);
  CudaStatus (*address_free)(CudaAddress address, size_t bytes);
  CudaStatus (*map)(CudaAddress address, size_t bytes, size_t offset, CudaHandle handle, unsigned long long flags);
  CudaStatus (*unmap)(CudaAddress address, size_t bytes);
  CudaStatus (*set_access)(CudaAddress address, size_t bytes, const CudaAccess* access, size_t count);

  void* library = nullptr;

  // Never closed again: the driver has threads of its own. kAbsent if there is no libcuda.so.1, or one too old. It does
  // not initialise the driver.
  static MemoryResult<const CudaDriver*> load();

  // "CUDA_ERROR_INVALID_VALUE (1)".
  std::string name_of(CudaStatus status) const;
  tl::unexpected<MemoryError> fault(const std::string& what, CudaStatus status) const;
};

}  // namespace mesh::io
