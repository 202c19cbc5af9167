#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include "tests/gpu/hands.h"

namespace mesh::facts {
namespace {

using Clock = std::chrono::steady_clock;

class ProcessorHands final : public Hands {
 public:
  MemoryResult<void> fill(uint64_t address, uint64_t bytes, uint32_t seed) override {
    auto* const words = reinterpret_cast<uint32_t*>(address);
    for (uint64_t i = 0; i < bytes / 4; ++i) words[i] = pattern(i, seed);
    return {};
  }

  MemoryResult<uint64_t> count_wrong(uint64_t address, uint64_t bytes, uint32_t seed) override {
    const auto* const words = reinterpret_cast<const uint32_t*>(address);
    uint64_t wrong = 0;
    for (uint64_t i = 0; i < bytes / 4; ++i) wrong += words[i] != pattern(i, seed) ? 1 : 0;
    return wrong;
  }

  MemoryResult<void> tick(uint64_t address) override {
    std::thread([address] {
      const std::atomic_ref<uint32_t> word(*reinterpret_cast<uint32_t*>(address));
      const auto end = Clock::now() + std::chrono::milliseconds(kTickMsMax);
      while (Clock::now() < end) ++word;
    }).detach();
    return {};
  }

  MemoryResult<uint32_t> peek(uint64_t address) override {
    return std::atomic_ref<uint32_t>(*reinterpret_cast<uint32_t*>(address)).load();
  }

  MemoryResult<uint64_t> allocate(uint64_t bytes) override {
    void* const at = std::malloc(bytes);
    if (at == nullptr) return io::memory_fault(io::MemoryFault::kOutOfMemory, "malloc");
    std::memset(at, 1, bytes);
    return reinterpret_cast<uint64_t>(at);
  }

  MemoryResult<void> free(uint64_t address) override {
    std::free(reinterpret_cast<void*>(address));
    return {};
  }

  MemoryResult<uint64_t> upload(uint64_t address, uint64_t bytes, bool) override {
    const std::vector<char> source(bytes, 'x');
    const auto before = Clock::now();
    std::memcpy(reinterpret_cast<void*>(address), source.data(), bytes);
    return static_cast<uint64_t>((Clock::now() - before).count());
  }
};

}  // namespace

std::unique_ptr<Hands> processor_hands() { return std::make_unique<ProcessorHands>(); }

}  // namespace mesh::facts
