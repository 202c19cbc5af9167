#include "common/gpu/reclaim.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace mesh::gpu {
namespace {

constexpr size_t kCandidatesMax = 64;
// A set that could be this much cheaper at best is not looked for any further.
constexpr double kGap = 0.05;
// Beyond it the best set so far is taken: half a millisecond.
constexpr int kNodesMax = 20'000;
// Nothing is free: of two equal sets the one with fewer victims is taken.
constexpr double kDisturbance = 1e-6;
constexpr Duration kLoadTimeUnknown = milliseconds(2000);
constexpr uint32_t kUsesMax = 64;  // more say nothing more

// The smallest cost to cover a need out of items in the order of cost per unit, and no more of a class than its cap.
class CheapestCover {
 public:
  CheapestCover(std::vector<Candidate> items, const ClassUnits& caps) : items_(std::move(items)), left_(caps) {
    std::sort(items_.begin(), items_.end(), [](const Candidate& a, const Candidate& b) {
      return a.cost * static_cast<double>(b.units) < b.cost * static_cast<double>(a.units);
    });
    if (items_.size() > kCandidatesMax) items_.resize(kCandidatesMax);
    suffix_units_.resize(items_.size() + 1);
    for (size_t i = items_.size(); i-- > 0;) suffix_units_[i] = suffix_units_[i + 1] + items_[i].units;
  }

  // Indexes into items(); nothing if there is no such set, or none was found.
  std::optional<std::vector<size_t>> find(Units need) {
    if (need <= 0) return std::vector<size_t>{};
    search(0, need, 0);
    if (!has_best_) return std::nullopt;
    drop_superfluous(need);
    return best_;
  }
  const std::vector<Candidate>& items() const { return items_; }

 private:
  void search(size_t at, Units need, double cost) {
    if (need <= 0) {
      if (has_best_ && cost >= best_cost_) return;
      best_ = chosen_;
      best_cost_ = cost;
      has_best_ = true;
      return;
    }
    if (nodes_++ >= kNodesMax && has_best_) return;
    if (nodes_ >= 4 * kNodesMax || need > suffix_units_[at]) return;
    if (has_best_ && (cost + least_cost(at, need)) >= best_cost_ * (1 - kGap)) return;
    const Candidate& item = items_[at];
    Units& cap = left_[static_cast<size_t>(item.size)];
    if (item.units <= cap) {
      cap -= item.units;
      chosen_.push_back(at);
      search(at + 1, need - item.units, cost + item.cost);
      chosen_.pop_back();
      cap += item.units;
    }
    search(at + 1, need, cost);
  }

  // As if parts of a lease could be taken, and caps did not matter: no set costs less.
  double least_cost(size_t at, Units need) const {
    double cost = 0;
    for (; need > 0 && at < items_.size(); ++at) {
      const Candidate& item = items_[at];
      if (item.units >= need) return cost + item.cost * static_cast<double>(need) / static_cast<double>(item.units);
      cost += item.cost;
      need -= item.units;
    }
    return cost;
  }

  // The most worth first. Cheaper sets beyond the gap, or the limit of nodes, may have left some.
  void drop_superfluous(Units need) {
    Units sum = 0;
    for (const size_t i : best_) sum += items_[i].units;
    for (size_t i = best_.size(); i-- > 0;) {
      const Units units = items_[best_[i]].units;
      if (sum - units < need) continue;
      sum -= units;
      best_.erase(best_.begin() + static_cast<std::ptrdiff_t>(i));
    }
  }

  std::vector<Candidate> items_;
  ClassUnits left_;
  std::vector<Units> suffix_units_;
  std::vector<size_t> chosen_;
  std::vector<size_t> best_;
  double best_cost_ = 0;
  bool has_best_ = false;
  int nodes_ = 0;
};

// What of these can be had at most, the largest first where a class keeps a part.
ClassUnits most_of(std::vector<Candidate> items, const ClassUnits& caps) {
  std::sort(items.begin(), items.end(), [](const Candidate& a, const Candidate& b) { return a.units > b.units; });
  ClassUnits taken{};
  for (const Candidate& item : items) {
    Units& sum = taken[static_cast<size_t>(item.size)];
    if (sum + item.units <= caps[static_cast<size_t>(item.size)]) sum += item.units;
  }
  return taken;
}

// Adds what covers the need; false if nothing does.
bool cover(Units need, const std::vector<Candidate>& items, ClassUnits& caps, Victims& victims) {
  CheapestCover search(items, caps);
  const auto found = search.find(need);
  if (!found) return false;
  for (const size_t i : *found) {
    const Candidate& item = search.items()[i];
    victims.ids.push_back(item.id);
    victims.units += item.units;
    victims.cost += item.cost;
    caps[static_cast<size_t>(item.size)] -= item.units;
  }
  return true;
}

}  // namespace

double Worth::score(uint32_t uses, Duration load_time, double weight, Units units) const {
  const Duration known = load_time > Duration{} ? load_time : kLoadTimeUnknown;
  const double seconds = std::chrono::duration<double>(known).count();
  return age_ + std::min(std::max(uses, 1U), kUsesMax) * seconds * weight / to_gib(std::max<Units>(units, 1));
}

double Worth::cost(double score, Units units) const {
  return std::max(score - age_, 0.0) * to_gib(units) + kDisturbance;
}

std::optional<Victims> choose_victims(Units need, std::span<const Candidate> candidates, const ClassUnits& evictable) {
  std::vector<Candidate> idle;
  std::vector<Candidate> used;
  for (const Candidate& candidate : candidates) {
    if (candidate.units > 0) (candidate.in_use ? used : idle).push_back(candidate);
  }
  ClassUnits caps = evictable;
  Victims victims;
  if (cover(need, idle, caps, victims)) return victims;
  // All of the idle is not enough: first the cheapest in use for the rest, then the idle that are needed beside them.
  const ClassUnits from_idle = most_of(idle, caps);
  ClassUnits caps_used = caps;
  Units rest = need;
  for (size_t i = 0; i < kSizeClasses; ++i) {
    rest -= from_idle[i];
    caps_used[i] -= from_idle[i];
  }
  if (!cover(rest, used, caps_used, victims)) return std::nullopt;
  for (size_t i = 0; i < kSizeClasses; ++i) caps[i] = caps_used[i] + from_idle[i];
  if (!cover(need - victims.units, idle, caps, victims)) return std::nullopt;
  return victims;
}

}  // namespace mesh::gpu
