#include "tools/bench/vram_lenders.h"

#include <algorithm>
#include <array>
#include <deque>

#include "common/gpu/bounds.h"
#include "common/gpu/size_class.h"
#include "tools/bench/vram_arbiter.h"

namespace mesh::bench {
namespace {

using gpu::Units;

constexpr size_t kPools = 3;
constexpr std::array<Units, kPools> kPoolUnits = {gpu::units_of(256 * gpu::kMiB), gpu::units_of(gpu::kGiB),
                                                  gpu::units_of(4 * gpu::kGiB)};

// Pools of fixed sizes, or a single one; in each, first come first served, and the least recently used idle one goes.
class Pools : public VramReplay {
 public:
  Pools(VramLender lender, const VramTrace& trace, const VramTerms& terms)
      : VramReplay(trace, terms), lender_(lender), hosts_(terms.cards.size()) {
    Units mean = 0;
    for (const VramModel& model : trace.models) mean += model.units;
    mean = std::max<Units>(mean / static_cast<Units>(trace.models.size()), 1);
    for (size_t host = 0; host < hosts_.size(); ++host) {
      const Units card = terms.cards[host] - gpu::bounds::emergency_units;
      hosts_[host].count_max = std::max<Units>(card / mean, 1);
      hosts_[host].size = {card, 0, 0};
      if (!is_hard()) continue;
      for (size_t pool = 0; pool < kPools; ++pool) {
        const Units all = kPoolUnits[0] + kPoolUnits[1] + kPoolUnits[2];
        const bool is_stretched = lender_ == VramLender::kStretchedPools;
        hosts_[host].size[pool] = is_stretched ? kPoolUnits[pool] * card / all : kPoolUnits[pool];
      }
    }
  }

 private:
  struct Host {
    std::array<Units, kPools> size{};
    std::array<Units, kPools> taken{};
    std::array<std::deque<size_t>, kPools> queues{};  // of models
    Units count = 0;
    Units count_max = 0;
  };

  bool is_hard() const { return lender_ == VramLender::kHardPools || lender_ == VramLender::kStretchedPools; }
  // What is larger than the pools of its class goes to the largest.
  size_t pool_of(size_t model) const {
    if (!is_hard()) return 0;
    return std::min(static_cast<size_t>(gpu::class_of(trace_.models[model].units)), kPools - 1);
  }

  size_t choose(const VramUse& use) override {
    const size_t pool = pool_of(use.model);
    size_t chosen = 0;
    for (size_t host = 0; host < hosts_.size(); ++host) {
      const Place& place = at(host, use.model);
      if (place.is_resident || place.is_wanted) return host;
      const auto free = [&](size_t of) { return hosts_[of].size[pool] - hosts_[of].taken[pool]; };
      if (free(host) > free(chosen)) chosen = host;
      if (hosts_[chosen].size[pool] < trace_.models[use.model].units) chosen = host;
    }
    return chosen;
  }
  void want(Place& place) override {
    Host& host = hosts_[place.host];
    const size_t pool = pool_of(place.model);
    if (model_of(place).units > host.size[pool]) return refuse(place);
    host.queues[pool].push_back(place.model);
    serve(place.host, pool);
  }
  void used(Place& place, bool in_use) override {
    if (!in_use) serve(place.host, pool_of(place.model));
  }

  void serve(size_t number, size_t pool) {
    Host& host = hosts_[number];
    auto& queue = host.queues[pool];
    while (!queue.empty() && make_room(number, pool, trace_.models[queue.front()].units)) {
      Place& place = at(number, queue.front());
      queue.pop_front();
      host.taken[pool] += model_of(place).units;
      ++host.count;
      start_load(place);
    }
  }
  bool make_room(size_t number, size_t pool, Units units) {
    Host& host = hosts_[number];
    const auto is_full = [&] { return lender_ == VramLender::kCountLru && host.count >= host.count_max; };
    while (host.size[pool] - host.taken[pool] < units || is_full()) {
      Place* oldest = nullptr;
      for (Place& place : places_) {
        if (place.host != number || pool_of(place.model) != pool || !place.is_idle()) continue;
        if (oldest == nullptr || place.used_at < oldest->used_at) oldest = &place;
      }
      if (oldest == nullptr) return false;
      host.taken[pool] -= model_of(*oldest).units;
      --host.count;
      gone(*oldest);
    }
    return true;
  }

  VramLender lender_;
  std::vector<Host> hosts_;
};

}  // namespace

const char* name_of(VramLender lender) {
  constexpr const char* kNames[] = {"hard pools", "stretched pools", "count LRU", "byte LRU", "arbiter"};
  return kNames[static_cast<size_t>(lender)];
}

VramOutcome replay(VramLender lender, const VramTrace& trace, const VramTerms& terms) {
  if (lender == VramLender::kArbiter) return VramArbiters(trace, terms).run();
  return Pools(lender, trace, terms).run();
}

}  // namespace mesh::bench
