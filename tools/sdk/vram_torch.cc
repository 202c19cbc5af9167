#include "tools/sdk/vram_torch.h"

#include <dlfcn.h>

#include <algorithm>
#include <bit>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "sidecar/io/gpu/cuda_device.h"

namespace mesh::sdk {
namespace {

// Large ones first: each costs a descriptor where it is shared.
constexpr uint64_t kExtents[] = {uint64_t{256} << 20, uint64_t{32} << 20, io::kMemoryUnitBytes};

// What a process that computes has, and an owner of memory must not have.
struct ContextCalls {
  io::CudaStatus (*retain)(void** context, int device) = nullptr;
  io::CudaStatus (*push)(void* context) = nullptr;
  io::CudaStatus (*pop)(void** context) = nullptr;
  io::CudaStatus (*synchronize)() = nullptr;

  explicit ContextCalls(void* library) {
    load(library, "cuDevicePrimaryCtxRetain", retain);
    load(library, "cuCtxPushCurrent_v2", push);
    load(library, "cuCtxPopCurrent_v2", pop);
    load(library, "cuCtxSynchronize", synchronize);
  }
  bool is_complete() const { return retain != nullptr && push != nullptr && pop != nullptr && synchronize != nullptr; }

 private:
  template <class F>
  static void load(void* library, const char* name, F*& function) {
    function = reinterpret_cast<F*>(dlsym(library, name));
  }
};

// One card and what was given of it.
class Pool {
 public:
  explicit Pool(std::unique_ptr<io::CudaDevice> device)
      : device_(std::move(device)), calls_(device_->driver().library) {}

  void* give(uint64_t bytes) {
    const uint64_t rounded = (bytes + io::kMemoryUnitBytes - 1) / io::kMemoryUnitBytes * io::kMemoryUnitBytes;
    if (bytes == 0 || rounded < bytes || rounded > budget_bytes_ - std::min(given_bytes_, budget_bytes_))
      return nullptr;
    auto range = device_->reserve(rounded);
    if (!range || !fill(*range)) return nullptr;
    const uint64_t address = range->address();
    given_.emplace(address, std::move(*range));
    given_bytes_ += rounded;
    return std::bit_cast<void*>(address);
  }

  void take_back(void* memory) {
    const auto at = given_.find(std::bit_cast<uint64_t>(memory));
    if (at == given_.end()) return;
    wait_for_device();
    given_bytes_ -= at->second.bytes();
    given_.erase(at);
  }

  void set_budget(uint64_t bytes) { budget_bytes_ = bytes; }
  uint64_t given_bytes() const { return given_bytes_; }

 private:
  // What is mapped needs no chunk any more: the mapping holds the memory.
  bool fill(io::AddressRange& range) {
    for (uint64_t offset = 0; offset < range.bytes();) {
      const uint64_t left = range.bytes() - offset;
      const uint64_t size = *std::find_if(std::begin(kExtents), std::end(kExtents), [&](auto s) { return s <= left; });
      const auto chunk = device_->create(size);
      if (!chunk || !device_->map(range, offset, *chunk, io::Access::kReadWrite)) return false;
      offset += size;
    }
    return true;
  }

  // The thread that frees may have no context of its own. A context that faulted runs nothing more, so that an error
  // here is no reason to keep the memory.
  void wait_for_device() {
    if (!calls_.is_complete()) return;
    if (context_ == nullptr && calls_.retain(&context_, device_->device()) != 0) return;
    if (calls_.push(context_) != 0) return;
    (void)calls_.synchronize();
    void* popped = nullptr;
    (void)calls_.pop(&popped);
  }

  std::unique_ptr<io::CudaDevice> device_;
  ContextCalls calls_;
  void* context_ = nullptr;
  std::map<uint64_t, io::AddressRange> given_;
  uint64_t given_bytes_ = 0;
  uint64_t budget_bytes_ = std::numeric_limits<uint64_t>::max();
};

std::mutex mutex;

// Null if there is no such card. Never destroyed: torch frees while the process ends, in an order of its own.
Pool* pool_of(int device) {
  static auto* const pools = new std::map<int, std::unique_ptr<Pool>>;
  auto& pool = (*pools)[device];
  if (pool != nullptr) return pool.get();
  auto opened = io::CudaDevice::open({.ordinal = device, .watches = false});
  if (!opened || !(*opened)->caps().can_create) return nullptr;
  pool = std::make_unique<Pool>(std::move(*opened));
  return pool.get();
}

// No exception may reach the caller.
template <class Result, class F>
Result with_pool(int device, Result otherwise, F&& use) noexcept {
  try {
    const std::lock_guard guard(mutex);
    Pool* const pool = pool_of(device);
    return pool == nullptr ? otherwise : use(*pool);
  } catch (...) {
    return otherwise;
  }
}

}  // namespace
}  // namespace mesh::sdk

using mesh::sdk::Pool;
using mesh::sdk::with_pool;

void* mesh_vram_torch_malloc(size_t bytes, int device, void*) {
  return with_pool<void*>(device, nullptr, [&](Pool& pool) { return pool.give(bytes); });
}

void mesh_vram_torch_free(void* memory, size_t, int device, void*) {
  with_pool(device, 0, [&](Pool& pool) { return pool.take_back(memory), 0; });
}

void mesh_vram_torch_set_budget(int device, size_t bytes) {
  with_pool(device, 0, [&](Pool& pool) { return pool.set_budget(bytes), 0; });
}

size_t mesh_vram_torch_bytes(int device) {
  return with_pool<size_t>(device, 0, [](Pool& pool) { return pool.given_bytes(); });
}
