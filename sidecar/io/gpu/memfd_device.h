// A card made of files in memory: the meaning of DeviceMemory with the kernel's own descriptors, on a host without GPU.
//
// What is different from a driver: memory is mapped lazily in pages of 4 KiB (see `touch`), a sealed chunk cannot be
// mapped writable by anybody, and importing a chunk of a wrong size is refused at once.
#pragma once

#include <memory>
#include <string>

#include "sidecar/io/gpu/device_memory.h"
#include "sidecar/io/gpu/memfd_book.h"

namespace mesh::io {

struct MemfdConfig {
  uint64_t total_bytes = 0;    // how much may be in use at a time, by all that share the card
  std::string book_path = {};  // a file by which processes share the card; empty for a card of this process
};

class MemfdDevice final : public DeviceMemory {
 public:
  // A book that exists says how large its card is.
  static MemoryResult<std::unique_ptr<MemfdDevice>> open(const MemfdConfig& config);

  const DeviceCaps& caps() const override;
  MemoryResult<OwnedFd> export_chunk(const Chunk& chunk) override;
  MemoryResult<DeviceReading> query_device() override;
  // A process that holds a chunk, as descriptor or mapping, uses all of it, whoever else does.
  MemoryResult<std::vector<ProcessUse>> query_processes() override;
  MemoryResult<DeviceUse> query_use() override;

  MemfdPlant& plant() { return book_->plant(); }

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
  explicit MemfdDevice(std::unique_ptr<MemfdBook> book) : book_(std::move(book)) {}
  bool is_ours(int fd) const;
  DeviceReading reading_of(uint64_t used_bytes);

  std::unique_ptr<MemfdBook> book_;
  mutable DeviceCaps caps_;
};

}  // namespace mesh::io
