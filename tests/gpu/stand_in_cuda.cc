// A libcuda.so.1 for hosts without a card, made of files in memory, so that whatever is opened and called by name is
// opened and called. It is as strict as the driver where that shows mistakes of the caller: nothing works before
// cuInit(), no kernel without a context, nothing is freed that is mapped. It only does the kernels of kernels.h, and
// those only to the first mebibyte. MESH_STAND_IN_BOOK names the file by which processes share the card.

#include <sys/stat.h>

#include <bit>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>

#include "sidecar/io/gpu/cuda_driver.h"
#include "sidecar/io/gpu/memfd_device.h"
#include "tests/gpu/hands.h"

namespace mesh::facts {
namespace {

using io::CudaAddress;
using io::CudaHandle;
using io::CudaStatus;

constexpr CudaStatus kNotInitialized = 3;
constexpr CudaStatus kInvalidContext = 201;
constexpr CudaStatus kIllegalAddress = 700;
constexpr CudaStatus kUnknown = 999;
constexpr uint64_t kCardBytes = uint64_t{16} << 30;
constexpr uint64_t kContextBytes = uint64_t{64} << 20;
constexpr uint64_t kFilledBytesMax = uint64_t{1} << 20;

struct Mapping {
  uint64_t bytes;
  bool is_accessible = false;
  bool is_read_only = false;
};

struct Card {
  std::unique_ptr<io::MemfdDevice> memory;
  std::map<CudaHandle, io::Chunk> chunks;
  std::map<CudaAddress, io::AddressRange> ranges;
  std::map<CudaAddress, Mapping> mappings;
  std::map<CudaAddress, std::pair<io::Chunk, io::AddressRange>> allocations;
  io::Chunk context;
  std::unique_ptr<Hands> hands = processor_hands();
  CudaHandle next_handle = 1;
  CudaStatus broken = 0;  // a context that faulted stays so
};

Card& card() {
  static Card* const the_card = new Card;  // others may still run when the process ends
  return *the_card;
}

CudaStatus status_of(const io::MemoryError& error) {
  if (error.fault == io::MemoryFault::kOutOfMemory) return io::kCudaOutOfMemory;
  return error.fault == io::MemoryFault::kWrongKind ? kUnknown : io::kCudaInvalidValue;
}

CudaHandle keep(io::Chunk chunk) {
  const CudaHandle handle = card().next_handle++;
  card().chunks.emplace(handle, std::move(chunk));
  return handle;
}

const io::AddressRange* range_of(CudaAddress address) {
  auto after = card().ranges.upper_bound(address);
  if (after == card().ranges.begin()) return nullptr;
  --after;
  return address < after->first + after->second.bytes() ? &after->second : nullptr;
}

// Whether a kernel may.
CudaStatus judge(CudaAddress address, bool is_write) {
  if (!card().context) return kInvalidContext;
  if (card().broken != 0) return card().broken;
  for (const auto& [at, mapping] : card().mappings) {
    if (address < at || address >= at + mapping.bytes) continue;
    if (mapping.is_accessible && !(is_write && mapping.is_read_only)) return 0;
    return card().broken = kIllegalAddress;
  }
  return card().allocations.contains(address) ? 0 : card().broken = kIllegalAddress;
}

template <class T>
T parameter(void** parameters, size_t index) {
  T value;
  std::memcpy(&value, parameters[index], sizeof(value));
  return value;
}

CudaStatus launch(const std::string& name, void** parameters) {
  const auto address = parameter<CudaAddress>(parameters, 0);
  if (const CudaStatus status = judge(address, name != "count_wrong")) return status == kIllegalAddress ? 0 : status;
  if (name == "tick") return card().hands->tick(address) ? 0 : kUnknown;
  const uint64_t bytes = std::min(parameter<uint64_t>(parameters, 1) * 4, kFilledBytesMax);
  const auto seed = parameter<uint32_t>(parameters, 2);
  if (name == "fill") return card().hands->fill(address, bytes, seed) ? 0 : kUnknown;
  auto* const counter = std::bit_cast<uint32_t*>(parameter<CudaAddress>(parameters, 3));
  *counter += static_cast<uint32_t>(*card().hands->count_wrong(address, bytes, seed));
  return 0;
}

}  // namespace

extern "C" {

CudaStatus cuInit(unsigned) {
  if (card().memory != nullptr) return 0;
  const char* const book = std::getenv("MESH_STAND_IN_BOOK");
  auto opened = io::MemfdDevice::open({.total_bytes = kCardBytes, .book_path = book == nullptr ? "" : book});
  if (!opened) return io::kCudaNoDevice;
  card().memory = std::move(*opened);
  return 0;
}

CudaStatus cuDriverGetVersion(int* version) { return *version = 13'000, 0; }
CudaStatus cuGetErrorName(CudaStatus, const char** name) { return *name = "CUDA_ERROR_OF_THE_STAND_IN", 0; }
CudaStatus cuDeviceGetCount(int* count) { return *count = 1, 0; }

CudaStatus cuDeviceGet(int* device, int ordinal) {
  if (card().memory == nullptr) return kNotInitialized;
  *device = 0;
  return ordinal == 0 ? 0 : io::kCudaInvalidDevice;
}

CudaStatus cuDeviceGetName(char* name, int size, int) {
  std::strncpy(name, "stand-in", static_cast<size_t>(size));
  return 0;
}

CudaStatus cuDeviceGetUuid_v2(io::CudaUuid* uuid, int) {
  for (size_t i = 0; i < sizeof(uuid->bytes); ++i) uuid->bytes[i] = static_cast<unsigned char>(i * 17);
  return 0;
}

CudaStatus cuDeviceGetAttribute(int* value, int attribute, int) {
  *value = attribute == io::kCudaHasVmm || attribute == io::kCudaExportsFds ? 1 : 0;
  return 0;
}

CudaStatus cuDeviceTotalMem_v2(size_t* bytes, int) { return *bytes = card().memory->caps().total_bytes, 0; }

CudaStatus cuMemGetAllocationGranularity(size_t* bytes, const io::CudaAllocationProperties* properties, int) {
  *bytes = io::kMemoryUnitBytes;
  return properties->type == 1 && properties->location.type == 1 ? 0 : io::kCudaInvalidValue;
}

CudaStatus cuMemCreate(CudaHandle* handle, size_t bytes, const io::CudaAllocationProperties* properties,
                       unsigned long long flags) {
  if (card().memory == nullptr) return kNotInitialized;
  if (properties->type != 1 || properties->handle_types != io::kCudaHandleIsFd || properties->location.id != 0)
    return io::kCudaInvalidValue;
  auto chunk = card().memory->create(bytes);
  if (flags != 0 || !chunk) return flags != 0 ? io::kCudaInvalidValue : status_of(chunk.error());
  *handle = keep(std::move(*chunk));
  return 0;
}

CudaStatus cuMemRelease(CudaHandle handle) { return card().chunks.erase(handle) == 1 ? 0 : io::kCudaInvalidValue; }

CudaStatus cuMemExportToShareableHandle(void* shareable, CudaHandle handle, int handle_type, unsigned long long) {
  const auto at = card().chunks.find(handle);
  if (at == card().chunks.end() || handle_type != io::kCudaHandleIsFd) return io::kCudaInvalidValue;
  auto fd = card().memory->export_chunk(at->second);
  if (!fd) return status_of(fd.error());
  const int number = fd->release();
  std::memcpy(shareable, &number, sizeof(number));
  return 0;
}

CudaStatus cuMemImportFromShareableHandle(CudaHandle* handle, void* shareable, int handle_type) {
  const int fd = static_cast<int>(std::bit_cast<uintptr_t>(shareable));
  struct stat info {};
  if (handle_type != io::kCudaHandleIsFd || fstat(fd, &info) != 0) return io::kCudaInvalidValue;
  const auto bytes = std::max<uint64_t>(static_cast<uint64_t>(info.st_size), io::kMemoryUnitBytes);
  auto chunk = card().memory->import_chunk(fd, bytes);
  if (!chunk) return status_of(chunk.error());
  *handle = keep(std::move(*chunk));
  return 0;
}

CudaStatus cuMemAddressReserve(CudaAddress* address, size_t bytes, size_t, CudaAddress, unsigned long long) {
  auto range = card().memory->reserve(bytes);
  if (!range) return status_of(range.error());
  *address = range->address();
  card().ranges.emplace(*address, std::move(*range));
  return 0;
}

CudaStatus cuMemAddressFree(CudaAddress address, size_t bytes) {
  const auto at = card().ranges.find(address);
  if (at == card().ranges.end() || at->second.bytes() != bytes) return io::kCudaInvalidValue;
  const auto mapped = card().mappings.lower_bound(address);
  if (mapped != card().mappings.end() && mapped->first < address + bytes) return io::kCudaInvalidValue;
  card().ranges.erase(at);
  return 0;
}

CudaStatus cuMemMap(CudaAddress address, size_t bytes, size_t offset, CudaHandle handle, unsigned long long) {
  const auto chunk = card().chunks.find(handle);
  const io::AddressRange* const range = range_of(address);
  if (range == nullptr || chunk == card().chunks.end() || offset != 0 || bytes != chunk->second.bytes())
    return io::kCudaInvalidValue;
  const auto done = card().memory->map(const_cast<io::AddressRange&>(*range), address - range->address(), chunk->second,
                                       io::Access::kReadWrite);
  if (!done) return status_of(done.error());
  card().mappings[address] = {.bytes = bytes};
  return 0;
}

CudaStatus cuMemUnmap(CudaAddress address, size_t bytes) {
  const auto at = card().mappings.find(address);
  const io::AddressRange* const range = range_of(address);
  if (range == nullptr || at == card().mappings.end() || at->second.bytes != bytes) return io::kCudaInvalidValue;
  const auto done = card().memory->unmap(const_cast<io::AddressRange&>(*range), address - range->address());
  if (!done) return status_of(done.error());
  card().mappings.erase(at);
  return 0;
}

CudaStatus cuMemSetAccess(CudaAddress address, size_t bytes, const io::CudaAccess* access, size_t count) {
  const auto at = card().mappings.find(address);
  if (at == card().mappings.end() || at->second.bytes != bytes || count != 1) return io::kCudaInvalidValue;
  if (access->location.type != 1 || access->location.id != 0) return io::kCudaInvalidValue;
  at->second.is_accessible = true;
  at->second.is_read_only = access->flags == io::kCudaReads;
  return 0;
}

CudaStatus cuDevicePrimaryCtxRetain(void** context, int) {
  if (card().memory == nullptr) return kNotInitialized;
  auto chunk = card().memory->create(kContextBytes);
  if (!chunk) return status_of(chunk.error());
  card().context = std::move(*chunk);
  *context = &card();
  return 0;
}

CudaStatus cuDevicePrimaryCtxRelease_v2(int) { return card().context.release(), 0; }
CudaStatus cuCtxSetCurrent(void* context) { return context == &card() ? 0 : kInvalidContext; }
CudaStatus cuCtxPushCurrent_v2(void* context) { return cuCtxSetCurrent(context); }
CudaStatus cuCtxPopCurrent_v2(void** context) { return *context = &card(), 0; }
CudaStatus cuCtxSynchronize() { return card().context ? card().broken : kInvalidContext; }
CudaStatus cuModuleLoadData(void** module, const void* image) {
  *module = &card();
  return std::strstr(static_cast<const char*>(image), ".version 7.0") != nullptr ? 0 : io::kCudaInvalidValue;
}

CudaStatus cuModuleGetFunction(void** function, void*, const char* name) {
  *function = new std::string(name);
  return 0;
}

CudaStatus cuLaunchKernel(void* function, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void*,
                          void** parameters, void**) {
  return launch(*static_cast<std::string*>(function), parameters);
}

CudaStatus cuMemcpyHtoD_v2(CudaAddress to, const void* from, size_t bytes) {
  if (const CudaStatus status = judge(to, true)) return status;
  std::memcpy(std::bit_cast<void*>(to), from, std::min<size_t>(bytes, kFilledBytesMax));
  return 0;
}

CudaStatus cuMemcpyDtoH_v2(void* to, CudaAddress from, size_t bytes) {
  if (const CudaStatus status = judge(from, false)) return status;
  std::memcpy(to, std::bit_cast<const void*>(from), bytes);
  return 0;
}

CudaStatus cuMemAlloc_v2(CudaAddress* address, size_t bytes) {
  if (!card().context) return kInvalidContext;
  const uint64_t size = (bytes + io::kMemoryUnitBytes - 1) / io::kMemoryUnitBytes * io::kMemoryUnitBytes;
  auto chunk = card().memory->create(size);
  if (!chunk) return status_of(chunk.error());
  auto range = card().memory->reserve(size);
  if (!range || !card().memory->map(*range, 0, *chunk, io::Access::kReadWrite)) return kUnknown;
  *address = range->address();
  card().allocations.emplace(*address, std::pair(std::move(*chunk), std::move(*range)));
  return 0;
}

CudaStatus cuMemFree_v2(CudaAddress address) {
  return card().allocations.erase(address) == 1 ? 0 : io::kCudaInvalidValue;
}

CudaStatus cuMemHostAlloc(void** memory, size_t bytes, unsigned) {
  *memory = std::malloc(bytes);
  return *memory != nullptr ? 0 : io::kCudaOutOfMemory;
}

CudaStatus cuMemFreeHost(void* memory) { return std::free(memory), 0; }

}  // extern "C"
}  // namespace mesh::facts
