#include "common/gpu/residency.h"

#include "common/gpu/placement.h"

namespace mesh::gpu {

void Residencies::digest(const ResidencyStamp& stamp, std::span<const ResidencyEntry> entries, Instant now) {
  const auto found = hosts_.find(stamp.host);
  if (found == hosts_.end() && hosts_.size() == kHostsMax) return;
  Host& host = hosts_[stamp.host];
  if (std::pair(stamp.epoch, stamp.version) < std::pair(host.epoch, host.version)) return;
  host = {stamp.epoch, stamp.version, now, {}};
  put(host, entries);
}

bool Residencies::delta(const ResidencyStamp& stamp, std::span<const ResidencyEntry> entries, Instant now) {
  const auto found = hosts_.find(stamp.host);
  if (found == hosts_.end() || found->second.epoch != stamp.epoch) return false;
  Host& host = found->second;
  if (stamp.version <= host.version) return true;  // heard before
  if (stamp.version != host.version + 1) return false;
  host.version = stamp.version;
  host.heard_at = now;
  put(host, entries);
  return true;
}

std::vector<Residencies::Found> Residencies::find(ModelKey model, Instant now) const {
  std::vector<Found> found;
  for (const auto& [id, host] : hosts_) {
    if (now - host.heard_at >= kSiteStale) continue;
    for (auto at = host.entries.lower_bound({model, 0}); at != host.entries.end() && at->first.first == model; ++at) {
      found.push_back({id, host.heard_at, at->second});
    }
  }
  return found;
}

void Residencies::put(Host& host, std::span<const ResidencyEntry> entries) {
  for (const ResidencyEntry& entry : entries) {
    const std::pair key(entry.model, entry.gpu);
    if (entry.at == Residency::kGone) {
      host.entries.erase(key);
    } else if (host.entries.size() < kEntriesMax || host.entries.contains(key)) {
      host.entries[key] = entry;
    }
  }
}

}  // namespace mesh::gpu
