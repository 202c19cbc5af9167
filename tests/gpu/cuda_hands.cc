#include <dlfcn.h>

#include <chrono>
#include <cstring>
#include <utility>

#include "tests/gpu/hands.h"
#include "tests/gpu/kernels.h"

namespace mesh::facts {
namespace {

using io::CudaAddress;
using io::CudaStatus;
using Clock = std::chrono::steady_clock;

constexpr unsigned kBlocks = 512;
constexpr unsigned kThreads = 256;

// What those who own memory must not have.
struct Client {
  CudaStatus (*context_retain)(void** context, int device);
  CudaStatus (*context_release)(int device);
  CudaStatus (*context_set)(void* context);
  CudaStatus (*synchronize)();
  CudaStatus (*module_load)(void** module, const void* image);
  CudaStatus (*module_function)(void** function, void* module, const char* name);
  CudaStatus (*launch)(void* function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                       unsigned block_y, unsigned block_z, unsigned shared_bytes, void* stream, void** parameters,
                       void** extra);
  CudaStatus (*to_device)(CudaAddress to, const void* from, size_t bytes);
  CudaStatus (*to_host)(void* to, CudaAddress from, size_t bytes);
  CudaStatus (*allocate)(CudaAddress* address, size_t bytes);
  CudaStatus (*free)(CudaAddress address);
  CudaStatus (*host_allocate)(void** memory, size_t bytes, unsigned flags);
  CudaStatus (*host_free)(void* memory);
};

template <class F>
bool load(void* library, const char* name, F*& function) {
  function = reinterpret_cast<F*>(dlsym(library, name));
  return function != nullptr;
}

bool load_all(void* library, Client& client) {
  return load(library, "cuDevicePrimaryCtxRetain", client.context_retain) &&
         load(library, "cuDevicePrimaryCtxRelease_v2", client.context_release) &&
         load(library, "cuCtxSetCurrent", client.context_set) &&
         load(library, "cuCtxSynchronize", client.synchronize) &&
         load(library, "cuModuleLoadData", client.module_load) &&
         load(library, "cuModuleGetFunction", client.module_function) &&
         load(library, "cuLaunchKernel", client.launch) && load(library, "cuMemcpyHtoD_v2", client.to_device) &&
         load(library, "cuMemcpyDtoH_v2", client.to_host) && load(library, "cuMemAlloc_v2", client.allocate) &&
         load(library, "cuMemFree_v2", client.free) && load(library, "cuMemHostAlloc", client.host_allocate) &&
         load(library, "cuMemFreeHost", client.host_free);
}

class CudaHands final : public Hands {
 public:
  explicit CudaHands(const io::CudaDevice& device) : device_(device) {}
  ~CudaHands() override {
    if (context_ != nullptr) client_.context_release(device_.device());
  }

  MemoryResult<void> enter() {
    if (!load_all(device_.driver().library, client_))
      return io::memory_fault(io::MemoryFault::kAbsent, "the CUDA driver has no functions for clients");
    if (auto done = judge("cuDevicePrimaryCtxRetain", client_.context_retain(&context_, device_.device())); !done)
      return done;
    return judge("cuCtxSetCurrent", client_.context_set(context_));
  }

  MemoryResult<void> fill(uint64_t address, uint64_t bytes, uint32_t seed) override {
    CudaAddress at = address;
    uint64_t words = bytes / 4;
    void* parameters[] = {&at, &words, &seed};
    return run("fill", fill_, kBlocks, kThreads, parameters);
  }

  MemoryResult<uint64_t> count_wrong(uint64_t address, uint64_t bytes, uint32_t seed) override {
    CudaAddress at = address;
    CudaAddress counter = 0;
    uint64_t words = bytes / 4;
    uint32_t wrong = 0;
    if (auto done = judge("cuMemAlloc", client_.allocate(&counter, sizeof(wrong))); !done)
      return tl::unexpected(done.error());
    auto done = judge("cuMemcpyHtoD", client_.to_device(counter, &wrong, sizeof(wrong)));
    void* parameters[] = {&at, &words, &seed, &counter};
    if (done) done = run("count_wrong", count_wrong_, kBlocks, kThreads, parameters);
    if (done) done = judge("cuMemcpyDtoH", client_.to_host(&wrong, counter, sizeof(wrong)));
    (void)client_.free(counter);
    if (!done) return tl::unexpected(done.error());
    return wrong;
  }

  MemoryResult<void> tick(uint64_t address) override {
    CudaAddress at = address;
    uint64_t nanoseconds = kTickMsMax * 1'000'000;
    void* parameters[] = {&at, &nanoseconds};
    return launch("tick", tick_, 1, 1, parameters);
  }

  MemoryResult<uint32_t> peek(uint64_t address) override {
    uint32_t word = 0;
    if (auto done = judge("cuMemcpyDtoH", client_.to_host(&word, address, sizeof(word))); !done)
      return tl::unexpected(done.error());
    return word;
  }

  MemoryResult<uint64_t> allocate(uint64_t bytes) override {
    CudaAddress address = 0;
    if (auto done = judge("cuMemAlloc", client_.allocate(&address, bytes)); !done) return tl::unexpected(done.error());
    return address;
  }

  MemoryResult<void> free(uint64_t address) override { return judge("cuMemFree", client_.free(address)); }

  MemoryResult<uint64_t> upload(uint64_t address, uint64_t bytes, bool is_pinned) override {
    void* source = nullptr;
    if (is_pinned) {
      if (auto done = judge("cuMemHostAlloc", client_.host_allocate(&source, bytes, 0)); !done)
        return tl::unexpected(done.error());
    } else {
      source = std::malloc(bytes);
    }
    std::memset(source, 1, bytes);
    const auto before = Clock::now();
    auto done = judge("cuMemcpyHtoD", client_.to_device(address, source, bytes));
    if (done) done = judge("cuCtxSynchronize", client_.synchronize());
    const auto took = Clock::now() - before;
    if (is_pinned) {
      client_.host_free(source);
    } else {
      std::free(source);
    }
    if (!done) return tl::unexpected(done.error());
    return static_cast<uint64_t>(std::chrono::nanoseconds(took).count());
  }

 private:
  MemoryResult<void> judge(const char* what, CudaStatus status) const {
    if (status == 0) return {};
    return device_.driver().fault(what, status);
  }

  // Those who only copy have no code on the card.
  MemoryResult<void> load_module() {
    if (module_ != nullptr) return {};
    if (auto done = judge("cuModuleLoadData", client_.module_load(&module_, kKernels)); !done) return done;
    for (const auto& [name, function] : {std::pair{"fill", &fill_}, {"count_wrong", &count_wrong_}, {"tick", &tick_}}) {
      if (auto done = judge("cuModuleGetFunction", client_.module_function(function, module_, name)); !done)
        return done;
    }
    return {};
  }

  MemoryResult<void> launch(const char* what, void* const& function, unsigned blocks, unsigned threads,
                            void** parameters) {
    if (auto done = load_module(); !done) return done;
    return judge(what, client_.launch(function, blocks, 1, 1, threads, 1, 1, 0, nullptr, parameters, nullptr));
  }

  MemoryResult<void> run(const char* what, void* const& function, unsigned blocks, unsigned threads,
                         void** parameters) {
    if (auto done = launch(what, function, blocks, threads, parameters); !done) return done;
    return judge(what, client_.synchronize());
  }

  const io::CudaDevice& device_;
  Client client_{};
  void* context_ = nullptr;
  void* module_ = nullptr;
  void* fill_ = nullptr;
  void* count_wrong_ = nullptr;
  void* tick_ = nullptr;
};

}  // namespace

MemoryResult<std::unique_ptr<Hands>> cuda_hands(const io::CudaDevice& device) {
  auto hands = std::make_unique<CudaHands>(device);
  if (const auto entered = hands->enter(); !entered) return tl::unexpected(entered.error());
  return std::unique_ptr<Hands>(std::move(hands));
}

}  // namespace mesh::facts
