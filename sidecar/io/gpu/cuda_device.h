// The memory of an NVIDIA card through the driver's virtual memory interface. It makes no context, so it runs no kernel
// and touches no memory: whoever wants to needs a CudaContext. A process that has opened one must not go on after
// fork().
#pragma once

#include <memory>

#include "sidecar/io/gpu/cuda_driver.h"
#include "sidecar/io/gpu/device_memory.h"
#include "sidecar/io/gpu/nvml.h"

namespace mesh::io {

struct CudaConfig {
  int ordinal = 0;
  bool watches = true;  // query_device() and query_processes() are wanted, for which NVML is opened
};

class CudaDevice final : public DeviceMemory {
 public:
  // kAbsent if there is no driver or no such device, kUnsupported if it has no virtual memory interface. NVML may be
  // absent: then only queries fail.
  static MemoryResult<std::unique_ptr<CudaDevice>> open(const CudaConfig& config);

  const DeviceCaps& caps() const override { return caps_; }
  MemoryResult<OwnedFd> export_chunk(const Chunk& chunk) override;
  MemoryResult<DeviceReading> query_device() override;
  MemoryResult<std::vector<ProcessUse>> query_processes() override;

  // What the driver asks sizes to be a multiple of.
  uint64_t granularity_bytes() const { return granularity_bytes_; }
  const CudaDriver& driver() const { return driver_; }
  int device() const { return device_; }

 protected:
  MemoryResult<uint64_t> create_handle(uint64_t bytes) override;
  MemoryResult<uint64_t> import_handle(int fd, uint64_t bytes) override;
  MemoryResult<void> seal_handle(uint64_t handle) override;
  void release_handle(uint64_t handle) override;
  MemoryResult<uint64_t> reserve_addresses(uint64_t bytes) override;
  void free_addresses(uint64_t address, uint64_t bytes) override;
  MemoryResult<void> map_at(uint64_t address, const Chunk& chunk, Access access, bool touch) override;
  MemoryResult<void> unmap_at(uint64_t address, uint64_t bytes) override;

 private:
  explicit CudaDevice(const CudaDriver& driver) : driver_(driver) {}
  MemoryResult<void> learn(int ordinal);
  MemoryResult<void> learn_granularity();
  void open_nvml();
  CudaAllocationProperties properties() const;

  const CudaDriver& driver_;
  int device_ = 0;
  uint64_t granularity_bytes_ = 0;
  DeviceCaps caps_;
  std::unique_ptr<Nvml> nvml_;
  std::optional<NvmlDevice> watched_;
  MemoryError why_unwatched_;
};

}  // namespace mesh::io
