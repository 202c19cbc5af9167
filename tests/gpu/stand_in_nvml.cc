// A libnvidia-ml.so.1 that watches the card of stand_in_cuda.cc.

#include <cstdlib>
#include <cstring>
#include <memory>

#include "sidecar/io/gpu/memfd_device.h"

namespace mesh::facts {
namespace {

constexpr int kNotFound = 6;
constexpr int kInsufficientSize = 7;
constexpr uint64_t kCardBytes = uint64_t{16} << 30;

std::unique_ptr<io::MemfdDevice> memory;

struct MemoryInfo {
  unsigned version;
  unsigned long long total;
  unsigned long long reserved;
  unsigned long long free;
  unsigned long long used;
};

struct Process {
  unsigned pid;
  unsigned long long used_bytes;
  unsigned gpu_instance;
  unsigned compute_instance;
};

int copy(const char* text, char* to, unsigned size) {
  std::strncpy(to, text, size);
  return std::strlen(text) < size ? 0 : kInsufficientSize;
}

}  // namespace

extern "C" {

int nvmlInit_v2() {
  const char* const book = std::getenv("MESH_STAND_IN_BOOK");
  auto opened = io::MemfdDevice::open({.total_bytes = kCardBytes, .book_path = book == nullptr ? "" : book});
  if (!opened) return 9;
  memory = std::move(*opened);
  return 0;
}

int nvmlShutdown() { return memory.reset(), 0; }
const char* nvmlErrorString(int) { return "the stand-in says no"; }
int nvmlSystemGetDriverVersion(char* text, unsigned size) { return copy("0.0", text, size); }
int nvmlDeviceGetCount_v2(unsigned* count) { return *count = 1, 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void** device) {
  *device = memory.get();
  return index == 0 ? 0 : kNotFound;
}

int nvmlDeviceGetHandleByUUID(const char* uuid, void** device) {
  *device = memory.get();
  return std::strcmp(uuid, "GPU-00112233-4455-6677-8899-aabbccddeeff") == 0 ? 0 : kNotFound;
}

int nvmlDeviceGetUUID(void*, char* text, unsigned size) {
  return copy("GPU-00112233-4455-6677-8899-aabbccddeeff", text, size);
}

int nvmlDeviceGetName(void*, char* text, unsigned size) { return copy("stand-in", text, size); }

int nvmlDeviceGetMemoryInfo_v2(void*, MemoryInfo* info) {
  if (info->version != (sizeof(MemoryInfo) | 2U << 24)) return 2;
  const auto reading = memory->query_device();
  info->total = reading->total_bytes;
  info->used = reading->used_bytes;
  info->free = info->total - info->used;
  info->reserved = 0;
  return 0;
}

int nvmlDeviceGetComputeRunningProcesses_v3(void*, unsigned* count, Process* processes) {
  const auto found = memory->query_processes();
  const unsigned room = *count;
  *count = static_cast<unsigned>(found->size());
  if (room < *count) return kInsufficientSize;
  for (size_t i = 0; i < found->size(); ++i)
    processes[i] = {static_cast<unsigned>((*found)[i].pid), (*found)[i].bytes, ~0U, ~0U};
  return 0;
}

int nvmlDeviceGetGraphicsRunningProcesses_v3(void*, unsigned* count, Process*) { return *count = 0, 0; }
int nvmlDeviceGetTemperature(void*, unsigned, unsigned* celsius) { return *celsius = 41, 0; }
int nvmlDeviceGetPowerUsage(void*, unsigned* milliwatts) { return *milliwatts = 70'000, 0; }

}  // extern "C"
}  // namespace mesh::facts
