// What somebody who has device memory mapped can do with it: kernels of a GPU, or the processor where the memory is
// files.
#pragma once

#include <cstdint>
#include <memory>

#include "sidecar/io/gpu/cuda_device.h"
#include "sidecar/io/gpu/device_memory.h"

namespace mesh::facts {

using io::MemoryResult;

// The word at that index of a pattern.
inline uint32_t pattern(uint64_t index, uint32_t seed) { return static_cast<uint32_t>(index) * 2654435761U + seed; }

// A tick ends by itself after this long.
inline constexpr uint64_t kTickMsMax = 15'000;

class Hands {
 public:
  Hands() = default;
  virtual ~Hands() = default;
  Hands(const Hands&) = delete;
  Hands& operator=(const Hands&) = delete;

  // Returns when all words are written.
  virtual MemoryResult<void> fill(uint64_t address, uint64_t bytes, uint32_t seed) = 0;
  // How many words are not of the pattern.
  virtual MemoryResult<uint64_t> count_wrong(uint64_t address, uint64_t bytes, uint32_t seed) = 0;
  // Adds to the first word without end, and returns at once.
  virtual MemoryResult<void> tick(uint64_t address) = 0;
  virtual MemoryResult<uint32_t> peek(uint64_t address) = 0;
  // The usual allocator.
  virtual MemoryResult<uint64_t> allocate(uint64_t bytes) = 0;
  virtual MemoryResult<void> free(uint64_t address) = 0;
  // From host memory that was touched before; the nanoseconds of the copy alone.
  virtual MemoryResult<uint64_t> upload(uint64_t address, uint64_t bytes, bool is_pinned) = 0;
};

std::unique_ptr<Hands> processor_hands();
// Makes a context.
MemoryResult<std::unique_ptr<Hands>> cuda_hands(const io::CudaDevice& device);

}  // namespace mesh::facts
