// NVIDIA's management library, opened while running, for looking only: nothing here sets anything. That it is absent,
// or that a host does not tell something, is a fact about the host.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "sidecar/io/gpu/device_memory.h"

namespace mesh::io {

struct NvmlDevice {
  void* handle = nullptr;
};

// What is behind a ThermalReading, and more of it.
struct NvmlDetails {
  std::optional<unsigned> temperature_c;
  std::optional<unsigned> shutdown_c;
  std::optional<unsigned> slowdown_c;
  std::optional<unsigned> memory_max_c;
  std::optional<unsigned> gpu_max_c;
  std::optional<unsigned> power_mw;
  std::optional<unsigned> busy_percent;
  std::optional<unsigned long long> slowed_by;  // bits of nvmlClocksEventReason…
};

class Nvml {
 public:
  // kAbsent if there is no libnvidia-ml.so.1, or no driver under it.
  static MemoryResult<std::unique_ptr<Nvml>> open();
  ~Nvml();
  Nvml(const Nvml&) = delete;
  Nvml& operator=(const Nvml&) = delete;

  MemoryResult<unsigned> count();
  MemoryResult<NvmlDevice> at(unsigned index);
  // By "GPU-…".
  MemoryResult<NvmlDevice> find(const std::string& uuid);
  MemoryResult<std::string> name(NvmlDevice device);
  MemoryResult<std::string> uuid(NvmlDevice device);
  MemoryResult<std::string> driver_version();

  // Without `thermal`, which takes several calls more.
  MemoryResult<DeviceReading> memory(NvmlDevice device);
  MemoryResult<DeviceReading> read(NvmlDevice device);
  // Each process once, those that compute and those that draw. kUnsupported where the host knows who, but not how much,
  // as under WSL2.
  MemoryResult<std::vector<ProcessUse>> processes(NvmlDevice device);
  NvmlDetails details(NvmlDevice device);

 private:
  struct Functions;
  explicit Nvml(std::unique_ptr<Functions> functions);
  tl::unexpected<MemoryError> fault(const char* what, int status) const;

  std::unique_ptr<Functions> functions_;
};

}  // namespace mesh::io
