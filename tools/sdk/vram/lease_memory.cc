#include "tools/sdk/vram/lease_memory.h"

#include <fcntl.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <map>

namespace mesh::sdk {

LeaseMemory::LeaseMemory(std::vector<HeldChunk> chunks) : chunks_(std::move(chunks)) {
  std::sort(chunks_.begin(), chunks_.end(), [](const HeldChunk& a, const HeldChunk& b) {
    return a.bytes != b.bytes ? a.bytes > b.bytes : a.number < b.number;
  });
}

void* LeaseMemory::map(uint32_t gpu, bool is_writable, uint64_t& bytes) {
  for (const Mapping& each : mappings_) {
    if (each.gpu == gpu) return bytes = each.bytes, each.address;
  }
  bytes = 0;
  for (const HeldChunk& chunk : chunks_) {
    if (chunk.gpu != gpu) continue;
    bytes += chunk.bytes;
    // Of a card's memory the kernel knows no seals.
    if (fcntl(chunk.fd.get(), F_GET_SEALS) < 0) return errno = ENOTSUP, nullptr;
  }
  if (bytes == 0) return errno = EINVAL, nullptr;
  void* const at = mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (at == MAP_FAILED) return nullptr;
  char* address = static_cast<char*>(at);
  for (const HeldChunk& chunk : chunks_) {
    if (chunk.gpu != gpu) continue;
    const int rights = is_writable ? PROT_READ | PROT_WRITE : PROT_READ;
    if (mmap(address, chunk.bytes, rights, MAP_SHARED | MAP_FIXED, chunk.fd.get(), 0) == MAP_FAILED) {
      const int why = errno;
      munmap(at, bytes);
      return errno = why, nullptr;
    }
    address += chunk.bytes;
  }
  mappings_.push_back({gpu, static_cast<char*>(at), bytes});
  return at;
}

void LeaseMemory::protect() {
  for (const Mapping& each : mappings_) mprotect(each.address, each.bytes, PROT_READ);
}

uint64_t LeaseMemory::offset_of(size_t position) const {
  uint64_t offset = 0;
  for (size_t i = 0; i < position; ++i) {
    if (chunks_[i].gpu == chunks_[position].gpu) offset += chunks_[i].bytes;
  }
  return offset;
}

// The descriptor goes, and so does the mapping: either would keep the memory.
void LeaseMemory::forget(size_t position) {
  const HeldChunk& chunk = chunks_[position];
  for (const Mapping& each : mappings_) {
    if (each.gpu != chunk.gpu) continue;
    mmap(each.address + offset_of(position), chunk.bytes, PROT_READ | PROT_WRITE,
         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
  }
  chunks_.erase(chunks_.begin() + static_cast<std::ptrdiff_t>(position));
}

std::vector<uint64_t> LeaseMemory::drop(uint64_t& bytes, bool at_least) {
  std::vector<uint64_t> numbers;
  struct Dropped {
    uint64_t bytes = 0;
    bool is_over = false;  // what stays begins at the first address and has no hole
  };
  std::map<uint32_t, Dropped> dropped;
  for (size_t i = chunks_.size(); i-- > 0;) {
    Dropped& of_gpu = dropped[chunks_[i].gpu];
    const bool is_wanted = at_least ? of_gpu.bytes < bytes : of_gpu.bytes + chunks_[i].bytes <= bytes;
    of_gpu.is_over = of_gpu.is_over || !is_wanted;
    if (of_gpu.is_over) continue;
    of_gpu.bytes += chunks_[i].bytes;
    numbers.push_back(chunks_[i].number);
    forget(i);
  }
  bytes = dropped.empty() ? 0 : dropped.begin()->second.bytes;
  return numbers;
}

void LeaseMemory::drop_all() {
  while (!chunks_.empty()) forget(chunks_.size() - 1);
  mappings_.clear();
}

}  // namespace mesh::sdk
