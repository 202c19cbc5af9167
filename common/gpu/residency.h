// What other hosts say of the models they have: each is the only one that says it of its own, in numbered deltas, and
// in full once a second.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <utility>
#include <vector>

#include "common/base/instant.h"
#include "common/gpu/ledger.h"
#include "common/gpu/thermal.h"
#include "common/gpu/units.h"

namespace mesh::gpu {

enum class Residency : uint8_t { kGone, kDisk, kHostCached, kResident };

struct ResidencyEntry {
  ModelKey model{};
  uint32_t gpu = 0;
  Residency at = Residency::kGone;
  uint32_t refs = 0;
  double load_s = 0;  // until it could be used
  Pressure pressure = Pressure::kGreen;
  Band band = Band::kCool;
};

// Whose word it is, and which: a new epoch is a new arbiter there.
struct ResidencyStamp {
  uint64_t host = 0;
  uint64_t epoch = 0;
  uint64_t version = 0;
};

class Residencies {
 public:
  // In place of all that was known of the host. Ignored if something newer is known.
  void digest(const ResidencyStamp& stamp, std::span<const ResidencyEntry> entries, Instant now);
  // What changed since the version before. False if that one is not known here: wait for the next digest.
  bool delta(const ResidencyStamp& stamp, std::span<const ResidencyEntry> entries, Instant now);
  void forget(uint64_t host) { hosts_.erase(host); }

  struct Found {
    uint64_t host;
    Instant heard_at;
    ResidencyEntry entry;
  };
  // Who has the model, or could load it; of hosts that were heard of lately.
  std::vector<Found> find(ModelKey model, Instant now) const;
  size_t hosts() const { return hosts_.size(); }

 private:
  // Two PCs and small fleets; who sends more than so many models has too many to place by.
  static constexpr size_t kHostsMax = 64;
  static constexpr size_t kEntriesMax = 4096;
  struct Host {
    uint64_t epoch = 0;
    uint64_t version = 0;
    Instant heard_at{};
    std::map<std::pair<ModelKey, uint32_t>, ResidencyEntry> entries{};
  };
  static void put(Host& host, std::span<const ResidencyEntry> entries);

  std::map<uint64_t, Host> hosts_;
};

}  // namespace mesh::gpu
