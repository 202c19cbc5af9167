// Memory that the sidecars of a host share: it outlives each of them, and goes with the host.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>

#include "common/cache/shared_tier.h"

namespace mesh::sim {

class VirtualMemory final : public Backing {
 public:
  VirtualMemory() : bytes_(new(std::align_val_t{64}) std::byte[kBytes]) { forget(); }

  // The host was started anew.
  void forget() {
    std::fill_n(bytes_.get(), kBytes, std::byte{0});
    reserved_.clear();
  }
  // Of one process; null if there is no memory for it: it goes without.
  std::unique_ptr<cache::SharedTier> attach(uint64_t random_number) {
    auto tier = cache::SharedTier::attach({bytes_.get(), kBytes}, *this, random_number | 1);
    return tier ? std::make_unique<cache::SharedTier>(std::move(*tier)) : nullptr;
  }
  bool reserve(size_t offset, size_t bytes) override {
    const auto had = reserved_.find(offset);
    if (had != reserved_.end() && had->second >= bytes) return true;
    if (is_full) return false;
    reserved_[offset] = bytes;
    return true;
  }

  bool is_full = false;  // nobody gets more than he has

 private:
  static constexpr size_t kBytes = cache::kSharedRegionBytesMin;
  struct Free {
    void operator()(std::byte* bytes) const { operator delete[](bytes, std::align_val_t{64}); }
  };
  std::unique_ptr<std::byte[], Free> bytes_;
  std::map<size_t, size_t> reserved_;  // bytes, by offset
};

}  // namespace mesh::sim
