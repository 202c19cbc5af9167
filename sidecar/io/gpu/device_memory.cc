#include "sidecar/io/gpu/device_memory.h"

#include <algorithm>

#include "common/base/check.h"

namespace mesh::io {
namespace {

bool is_in_units(uint64_t bytes) { return bytes % kMemoryUnitBytes == 0; }

tl::unexpected<MemoryError> not_in_units(uint64_t bytes) {
  return memory_fault(MemoryFault::kBadSize, std::to_string(bytes) + " bytes are no positive multiple of 2 MiB");
}

}  // namespace

std::string_view to_string(MemoryFault fault) {
  switch (fault) {
    case MemoryFault::kAbsent:
      return "absent";
    case MemoryFault::kUnsupported:
      return "unsupported";
    case MemoryFault::kOutOfMemory:
      return "out_of_memory";
    case MemoryFault::kBadSize:
      return "bad_size";
    case MemoryFault::kWrongKind:
      return "wrong_kind";
    case MemoryFault::kRefused:
      return "refused";
    case MemoryFault::kDriver:
      return "driver";
  }
  return "driver";
}

tl::unexpected<MemoryError> memory_fault(MemoryFault fault, std::string text, int driver) {
  return tl::unexpected<MemoryError>(MemoryError{.fault = fault, .text = std::move(text), .driver = driver});
}

void Chunk::release() {
  if (DeviceMemory* const device = std::exchange(device_, nullptr)) device->release_handle(handle_);
}

void AddressRange::release() {
  DeviceMemory* const device = std::exchange(device_, nullptr);
  if (device == nullptr) return;
  // A driver that does not unmap keeps the addresses, too: they are lost, and the process goes on.
  for (const Piece& piece : pieces_) (void)device->unmap_at(address_ + piece.offset, piece.bytes);
  pieces_.clear();
  device->free_addresses(address_, bytes_);
}

bool AddressRange::overlaps(uint64_t offset, uint64_t bytes) const {
  return std::any_of(pieces_.begin(), pieces_.end(), [&](const Piece& piece) {
    return offset < piece.offset + piece.bytes && piece.offset < offset + bytes;
  });
}

MemoryResult<Chunk> DeviceMemory::create(uint64_t bytes) {
  if (bytes == 0 || !is_in_units(bytes)) return not_in_units(bytes);
  const auto handle = create_handle(bytes);
  if (!handle) return tl::unexpected(handle.error());
  return Chunk(this, *handle, bytes);
}

MemoryResult<Chunk> DeviceMemory::import_chunk(int fd, uint64_t bytes) {
  if (bytes == 0 || !is_in_units(bytes)) return not_in_units(bytes);
  const auto handle = import_handle(fd, bytes);
  if (!handle) return tl::unexpected(handle.error());
  return Chunk(this, *handle, bytes);
}

MemoryResult<void> DeviceMemory::seal(Chunk& chunk) {
  MESH_CHECK(chunk.device_ == this);
  auto sealed = seal_handle(chunk.handle_);
  if (sealed) chunk.is_sealed_ = true;
  return sealed;
}

MemoryResult<AddressRange> DeviceMemory::reserve(uint64_t bytes) {
  if (bytes == 0 || !is_in_units(bytes)) return not_in_units(bytes);
  const auto address = reserve_addresses(bytes);
  if (!address) return tl::unexpected(address.error());
  return AddressRange(this, *address, bytes);
}

MemoryResult<void> DeviceMemory::map(AddressRange& range, uint64_t offset, const Chunk& chunk, Access access,
                                     bool touch) {
  MESH_CHECK(range.device_ == this && chunk);
  if (!is_in_units(offset)) return not_in_units(offset);
  if (chunk.is_sealed() && access == Access::kReadWrite)
    return memory_fault(MemoryFault::kRefused, "the chunk is sealed against writing");
  if (offset > range.bytes_ || chunk.bytes() > range.bytes_ - offset)
    return memory_fault(MemoryFault::kBadSize, "the chunk is larger than what is left of the addresses");
  if (range.overlaps(offset, chunk.bytes()))
    return memory_fault(MemoryFault::kRefused, "something is mapped at these addresses");
  if (auto mapped = map_at(range.address_ + offset, chunk, access, touch); !mapped) return mapped;
  range.pieces_.push_back({.offset = offset, .bytes = chunk.bytes()});
  return {};
}

MemoryResult<void> DeviceMemory::unmap(AddressRange& range, uint64_t offset) {
  MESH_CHECK(range.device_ == this);
  const auto at = std::find_if(range.pieces_.begin(), range.pieces_.end(),
                               [&](const AddressRange::Piece& piece) { return piece.offset == offset; });
  if (at == range.pieces_.end()) return memory_fault(MemoryFault::kRefused, "nothing is mapped at that offset");
  if (auto unmapped = unmap_at(range.address_ + offset, at->bytes); !unmapped) return unmapped;
  range.pieces_.erase(at);
  return {};
}

MemoryResult<DeviceUse> DeviceMemory::query_use() {
  auto device = query_device();
  if (!device) return tl::unexpected(device.error());
  auto processes = query_processes();
  if (!processes) return tl::unexpected(processes.error());
  if (const auto again = query_device()) device->used_bytes = std::min(device->used_bytes, again->used_bytes);
  return DeviceUse{*device, std::move(*processes)};
}

MemoryResult<uint64_t> DeviceMemory::query_process(pid_t pid) {
  const auto processes = query_processes();
  if (!processes) return tl::unexpected(processes.error());
  uint64_t bytes = 0;
  for (const ProcessUse& process : *processes) bytes += process.pid == pid ? process.bytes : 0;
  return bytes;
}

}  // namespace mesh::io
