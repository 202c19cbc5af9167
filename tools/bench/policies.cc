#include "tools/bench/policies.h"

#include <algorithm>
#include <deque>
#include <functional>
#include <limits>
#include <list>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "common/cache/memory_tier.h"

namespace mesh::bench {
namespace {

constexpr size_t kNever = std::numeric_limits<size_t>::max();

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

// By request: the next one for the same key, or the end.
std::vector<size_t> next_of(const Trace& trace) {
  std::vector<size_t> next(trace.size());
  std::unordered_map<uint64_t, size_t> seen;
  for (size_t i = trace.size(); i-- > 0;) {
    const auto at = seen.find(trace[i].key);
    next[i] = at == seen.end() ? kNever : at->second;
    seen[trace[i].key] = i;
  }
  return next;
}

// What is worth `value` takes `room`; the best of all that fit, and a part of one more.
struct Choice {
  double value;
  double room;
};
double best_of(std::vector<Choice> choices, double room) {
  std::sort(choices.begin(), choices.end(),
            [](const Choice& a, const Choice& b) { return a.value * b.room > b.value * a.room; });
  double value = 0;
  for (const Choice& choice : choices) {
    if (choice.room > room) return value + choice.value * room / choice.room;
    room -= choice.room;
    value += choice.value;
  }
  return value;
}

}  // namespace

Score lru(const Trace& trace, uint64_t budget_bytes) {
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
    for (held += asked.bytes; held > budget_bytes; order.pop_back()) {
      held -= order.back().bytes;
      index.erase(order.back().key);
    }
    return false;
  });
}

Score s3fifo(const Trace& trace, uint64_t budget_bytes) {
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
    if (asked.bytes > budget_bytes) return false;
    while (small_bytes + main_bytes + asked.bytes > budget_bytes) {
      small_bytes > budget_bytes / 10 || main.empty() ? evict_small() : evict_main();
    }
    const bool is_main = ghost_index.contains(asked.key);
    entries[asked.key] = {asked, 0, is_main};
    (is_main ? main : small).push_back(asked.key);
    (is_main ? main_bytes : small_bytes) += asked.bytes;
    return false;
  });
}

Score belady(const Trace& trace, uint64_t budget_bytes) {
  const std::vector<size_t> next = next_of(trace);
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
    while (bytes > budget_bytes) {
      const auto last = std::prev(by_next.end());
      bytes -= held[last->second].second;
      held.erase(last->second);
      by_next.erase(last);
    }
    return is_hit;
  });
}

Score bound(const Trace& trace, uint64_t budget_bytes) {
  const std::vector<size_t> next = next_of(trace);
  std::vector<Choice> hits;
  std::vector<Choice> saved;
  double cost = 0;
  for (size_t i = 0; i < trace.size(); ++i) {
    cost += static_cast<double>(trace[i].cost_us);
    if (next[i] == kNever || trace[i].bytes > budget_bytes) continue;
    const double room = static_cast<double>(next[i] - i) * trace[i].bytes;
    hits.push_back({1, room});
    saved.push_back({static_cast<double>(trace[next[i]].cost_us), room});
  }
  const auto requests = static_cast<double>(trace.size());
  const double room = requests * static_cast<double>(budget_bytes);
  return {best_of(std::move(hits), room) / requests, best_of(std::move(saved), room) / cost};
}

Score memory_tier(const Trace& trace, uint64_t budget_bytes) {
  using namespace cache;
  const Instant now{milliseconds(1000)};
  MemoryTier tier(budget_bytes);
  const Purges purges;
  const uint64_t overhead = Kept().bytes();
  return run(trace, [&](size_t, const bench::Asked& asked) {
    const Key key{{asked.key, asked.key * 31}, {}};
    if (tier.find(key, purges, now) != nullptr) return true;
    Kept kept;
    kept.key = key;
    kept.body = Slice::copy_of(std::string(asked.bytes - std::min<uint64_t>(asked.bytes, overhead), 'x'));
    kept.fresh_until = kept.revalidate_until = kept.error_until = now + milliseconds(1);
    kept.cost_us = asked.cost_us;
    tier.put(std::move(kept), now);
    return false;
  });
}

}  // namespace mesh::bench
