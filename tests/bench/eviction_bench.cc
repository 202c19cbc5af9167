// How much of what is asked for is found in memory, and how much of what it cost is saved, by who is made to go when
// room is needed: the memory tier, LRU, S3-FIFO (Yang et al., SOSP 2023), and Belady's choice, which knows the future
// (for replies of one size the best there is).
//
// usage: eviction_bench        prints a table, shares in percent
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <deque>
#include <functional>
#include <limits>
#include <list>
#include <map>
#include <queue>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "common/base/prng.h"
#include "common/cache/memory_tier.h"

namespace {

using mesh::Prng;

struct Asked {
  uint64_t key;
  uint32_t bytes;
  int64_t cost_us;
};
using Trace = std::vector<Asked>;

struct Score {
  double hits = 0;
  double saved = 0;  // of the cost
};

// `is_hit` says whether it was there, and puts it in if not.
Score run(const Trace& trace, const std::function<bool(size_t, const Asked&)>& is_hit) {
  double hits = 0;
  double saved = 0;
  double cost = 0;
  for (size_t i = 0; i < trace.size(); ++i) {
    const bool hit = is_hit(i, trace[i]);
    hits += hit;
    cost += static_cast<double>(trace[i].cost_us);
    if (hit) saved += static_cast<double>(trace[i].cost_us);
  }
  return {hits / static_cast<double>(trace.size()), saved / cost};
}

Score lru(const Trace& trace, uint64_t budget) {
  std::list<Asked> order;
  std::unordered_map<uint64_t, std::list<Asked>::iterator> index;
  uint64_t held = 0;
  return run(trace, [&](size_t, const Asked& asked) {
    if (const auto at = index.find(asked.key); at != index.end()) {
      order.splice(order.begin(), order, at->second);
      return true;
    }
    order.push_front(asked);
    index[asked.key] = order.begin();
    for (held += asked.bytes; held > budget; order.pop_back()) {
      held -= order.back().bytes;
      index.erase(order.back().key);
    }
    return false;
  });
}

Score s3fifo(const Trace& trace, uint64_t budget) {
  struct Entry {
    Asked asked;
    int uses = 0;
    bool is_main = false;
  };
  std::unordered_map<uint64_t, Entry> entries;
  std::deque<uint64_t> small;
  std::deque<uint64_t> main;
  std::deque<uint64_t> ghosts;
  std::set<uint64_t> ghost_index;
  uint64_t small_bytes = 0;
  uint64_t main_bytes = 0;
  const auto evict_main = [&] {
    while (!main.empty()) {
      const uint64_t key = main.front();
      main.pop_front();
      Entry& entry = entries[key];
      if (entry.uses-- > 0) {
        main.push_back(key);
        continue;
      }
      main_bytes -= entry.asked.bytes;
      entries.erase(key);
      return;
    }
  };
  const auto evict_small = [&] {
    const uint64_t key = small.front();
    small.pop_front();
    Entry& entry = entries[key];
    small_bytes -= entry.asked.bytes;
    if (entry.uses > 1) {
      entry.uses = 0;
      entry.is_main = true;
      main_bytes += entry.asked.bytes;
      main.push_back(key);
      return;
    }
    entries.erase(key);
    ghosts.push_back(key);
    ghost_index.insert(key);
    if (ghosts.size() > main.size() + 100) ghost_index.erase(ghosts.front()), ghosts.pop_front();
  };
  return run(trace, [&](size_t, const Asked& asked) {
    if (const auto at = entries.find(asked.key); at != entries.end()) {
      at->second.uses = std::min(at->second.uses + 1, 3);
      return true;
    }
    while (small_bytes + main_bytes + asked.bytes > budget) {
      small_bytes > budget / 10 || main.empty() ? evict_small() : evict_main();
    }
    const bool is_main = ghost_index.contains(asked.key);
    entries[asked.key] = {asked, 0, is_main};
    (is_main ? main : small).push_back(asked.key);
    (is_main ? main_bytes : small_bytes) += asked.bytes;
    return false;
  });
}

Score belady(const Trace& trace, uint64_t budget) {
  std::vector<size_t> next(trace.size());
  std::unordered_map<uint64_t, size_t> seen;
  for (size_t i = trace.size(); i-- > 0;) {
    const auto at = seen.find(trace[i].key);
    next[i] = at == seen.end() ? std::numeric_limits<size_t>::max() : at->second;
    seen[trace[i].key] = i;
  }
  std::set<std::pair<size_t, uint64_t>> by_next;  // when asked for again, which
  std::unordered_map<uint64_t, std::pair<size_t, uint32_t>> held;
  uint64_t bytes = 0;
  return run(trace, [&](size_t i, const Asked& asked) {
    const auto at = held.find(asked.key);
    const bool is_hit = at != held.end();
    if (is_hit) {
      by_next.erase({at->second.first, asked.key});
    } else {
      bytes += asked.bytes;
    }
    held[asked.key] = {next[i], asked.bytes};
    by_next.insert({next[i], asked.key});
    while (bytes > budget) {
      const auto last = std::prev(by_next.end());
      bytes -= held[last->second].second;
      held.erase(last->second);
      by_next.erase(last);
    }
    return is_hit;
  });
}

Score ours(const Trace& trace, uint64_t budget) {
  using namespace mesh::cache;
  const mesh::Instant now{mesh::milliseconds(1000)};
  MemoryTier tier(budget);
  const Purges purges;
  const uint64_t overhead = Kept().bytes();
  return run(trace, [&](size_t, const Asked& asked) {
    const Key key{{asked.key, asked.key * 31}, {}};
    if (tier.find(key, purges, now) != nullptr) return true;
    Kept kept;
    kept.key = key;
    kept.body = mesh::Slice::copy_of(std::string(asked.bytes - overhead, 'x'));
    kept.fresh_until = kept.revalidate_until = kept.error_until = now + mesh::milliseconds(1);
    kept.cost_us = asked.cost_us;
    tier.put(std::move(kept), now);
    return false;
  });
}

// Which of `keys` is asked for, some far more often than others.
class Zipf {
 public:
  Zipf(size_t keys, double skew) {
    double sum = 0;
    for (size_t i = 1; i <= keys; ++i) sums_.push_back(sum += 1 / std::pow(static_cast<double>(i), skew));
  }
  uint64_t draw(Prng& prng) const {
    const double at = static_cast<double>(prng.next() >> 11) / 9007199254740992.0 * sums_.back();
    return static_cast<uint64_t>(std::lower_bound(sums_.begin(), sums_.end(), at) - sums_.begin());
  }

 private:
  std::vector<double> sums_;
};

constexpr size_t kRequests = 200'000;
constexpr size_t kKeys = 10'000;

uint64_t mixed(uint64_t key) { return (key + 1) * 0x9E3779B97F4A7C15 >> 20; }
// An answer of one size and cost, or of its own of each: 600 B to 40 KiB, 1 ms to 2 s.
Asked plain(uint64_t key) { return {key, 1000, 10'000}; }
Asked varied(uint64_t key) {
  const double size = static_cast<double>(mixed(key) % 1000) / 1000;
  const double cost = static_cast<double>(mixed(key * 7 + 3) % 1000) / 1000;
  return {key, static_cast<uint32_t>(600 * std::pow(65, size)), static_cast<int64_t>(1000 * std::pow(2000, cost))};
}

Trace zipf(double skew, Asked (*make)(uint64_t)) {
  Prng prng(1);
  const Zipf keys(kKeys, skew);
  Trace trace;
  for (size_t i = 0; i < kRequests; ++i) trace.push_back(make(keys.draw(prng)));
  return trace;
}
// Every tenth request belongs to somebody who reads everything once.
Trace scanned() {
  Trace trace = zipf(0.9, plain);
  for (size_t i = 0; i < trace.size(); i += 10) trace[i] = plain(1'000'000 + i);
  return trace;
}
// Somebody goes through more than there is room for, again and again.
Trace looped() {
  Trace trace;
  for (size_t i = 0; i < kRequests; ++i) trace.push_back(plain(i % 1500));
  return trace;
}
// What is liked changes.
Trace shifted() {
  Trace trace = zipf(0.9, plain);
  for (size_t i = 0; i < trace.size(); ++i) trace[i].key += i / 20'000 * kKeys;
  return trace;
}

void tell(const char* name, const Trace& trace, uint64_t budget) {
  const Score scores[] = {ours(trace, budget), lru(trace, budget), s3fifo(trace, budget), belady(trace, budget)};
  std::printf("%-22s", name);
  for (const Score& score : scores) std::printf("   %5.1f %5.1f", 100 * score.hits, 100 * score.saved);
  std::printf("\n");
}

}  // namespace

int main() {
  std::printf("%-22s   %11s   %11s   %11s   %11s\n", "hits, cost saved (%)", "memory tier", "LRU", "S3-FIFO", "Belady");
  constexpr uint64_t kBudget = 1'000'000;  // a tenth of all keys, where all are of one size
  tell("zipf 0.7", zipf(0.7, plain), kBudget);
  tell("zipf 0.9", zipf(0.9, plain), kBudget);
  tell("zipf 1.1", zipf(1.1, plain), kBudget);
  tell("zipf 0.9, varied", zipf(0.9, varied), 10 * kBudget);
  tell("zipf 0.9, scans", scanned(), kBudget);
  tell("loop of 1.5", looped(), kBudget);
  tell("zipf 0.9, shifting", shifted(), kBudget);
}
