// VRAM in units of 2 MiB, the granularity in which drivers hand it out, and the ids under which it is held.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>

namespace mesh::gpu {

// A count of 2 MiB units; as a difference it may be negative.
using Units = int64_t;

inline constexpr uint64_t kMiB = uint64_t{1} << 20;
inline constexpr uint64_t kGiB = uint64_t{1} << 30;
inline constexpr uint64_t kUnitBytes = 2 * kMiB;

// Rounded up: what is asked for has to fit.
constexpr Units units_of(uint64_t bytes) { return static_cast<Units>(bytes / kUnitBytes + (bytes % kUnitBytes != 0)); }
constexpr uint64_t to_bytes(Units units) { return static_cast<uint64_t>(units) * kUnitBytes; }
constexpr double to_gib(Units units) { return static_cast<double>(units) * (2.0 / 1024); }

// 128 bits, random for leases: who does not know one cannot name it, and two never collide.
struct Id {
  uint64_t high = 0;
  uint64_t low = 0;
  auto operator<=>(const Id&) const = default;
  explicit operator bool() const { return (high | low) != 0; }
};
using LeaseId = Id;
using ModelKey = Id;  // of what is loaded; zero: of nothing that another could ask for, too

struct HashOfId {
  size_t operator()(const Id& id) const { return id.low ^ id.high * 0x9E3779B97F4A7C15ULL; }
};

// Which GPUs of a host, a bit each, by their position in the order of UUIDs.
using GpuMask = uint32_t;
inline constexpr GpuMask kAnyGpu = UINT32_MAX;
constexpr GpuMask mask_of(size_t gpu) { return GpuMask{1} << gpu; }

}  // namespace mesh::gpu
