// What a process has of a lease: its chunks, and where the processor sees them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tools/sdk/vram/packet_line.h"

namespace mesh::sdk {

class LeaseMemory {
 public:
  LeaseMemory() = default;
  // In an order that is the same in every process: the largest first, so that little can be given back from the end.
  explicit LeaseMemory(std::vector<HeldChunk> chunks);
  LeaseMemory(LeaseMemory&&) = default;
  LeaseMemory& operator=(LeaseMemory&&) = default;

  const std::vector<HeldChunk>& chunks() const { return chunks_; }
  // All of that GPU, one chunk after the other. Null where these are no files of the processor's memory (ENOTSUP), or
  // the kernel refuses; errno says why. Again: the same addresses.
  void* map(uint32_t gpu, bool is_writable, uint64_t& bytes);
  // What is mapped can be read only from now on.
  void protect();
  // Chunks from the end, on each GPU alike, as many as do not exceed `bytes`; or, `at_least`, until it is that much.
  // Their memory is gone, their addresses hold zeros. Their numbers; how much that is on each GPU in `bytes`.
  std::vector<uint64_t> drop(uint64_t& bytes, bool at_least);
  void drop_all();

 private:
  struct Mapping {
    uint32_t gpu;
    char* address;
    uint64_t bytes;
  };
  // Where a chunk is among those of its GPU.
  uint64_t offset_of(size_t position) const;
  void forget(size_t position);

  std::vector<HeldChunk> chunks_;
  std::vector<Mapping> mappings_;
};

}  // namespace mesh::sdk
