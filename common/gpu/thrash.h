// Against models that push each other out: what comes back soon after it went is worth more, and stays longer.
//
// To keep something about as long as it takes to get it again costs at most twice what the best would have cost that
// knew the future (ski rental). But where all fits only just, staying costs hits: so it is a brake that is engaged for
// models that did come back, not a rule for all.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <utility>

#include "common/base/instant.h"
#include "common/gpu/bounds.h"
#include "common/gpu/units.h"

namespace mesh::gpu {

// A model that went lately.
struct Ghost {
  ModelKey model{};
  Instant evicted_at{};                    // long ago once it was asked for again
  Instant returns[bounds::ghost_returns];  // the latest last
  // What it took before it went.
  Instant went_at{};
  Units units = 0;
  Duration load_time{};       // 0: unknown
  bool is_offloaded = false;  // its content is still in the host's memory
};

// Models that went lately, and how often they came back.
class Ghosts {
 public:
  void evicted(ModelKey model, Instant now, Units units = 0, Duration load_time = {}, bool is_offloaded = false) {
    if (!model) return;
    Ghost& ghost = at(model);
    ghost.evicted_at = ghost.went_at = now;
    ghost.units = units;
    ghost.load_time = load_time;
    ghost.is_offloaded = is_offloaded;
  }
  template <class Visit>
  void for_each(Visit visit) const {
    for (const Ghost& ghost : ghosts_) visit(ghost);
  }
  // Somebody asks for it.
  void requested(ModelKey model, Instant now) {
    Ghost* ghost = find(model);
    if (ghost == nullptr || now - ghost->evicted_at >= kWindow) return;
    ghost->evicted_at = kLongAgo;  // one return for each time it went
    std::move(std::begin(ghost->returns) + 1, std::end(ghost->returns), std::begin(ghost->returns));
    ghost->returns[bounds::ghost_returns - 1] = now;
  }
  bool is_thrashing(ModelKey model, Instant now) const {
    const Ghost* ghost = const_cast<Ghosts*>(this)->find(model);
    return ghost != nullptr && now - ghost->returns[0] < kWindow;
  }
  // How long it stays at least after it was loaded; none if it does not thrash.
  Duration residency(ModelKey model, Duration load_time, Instant now) const {
    if (!is_thrashing(model, now)) return {};
    return load_time > Duration{} ? 3 * load_time : milliseconds(bounds::quantum_ms);
  }
  // What a score is multiplied with.
  double factor(ModelKey model, Instant now) const { return is_thrashing(model, now) ? 1 + bounds::ghost_returns : 1; }
  size_t size() const { return ghosts_.size(); }

 private:
  static constexpr Duration kWindow = milliseconds(bounds::ghost_ms);
  static constexpr Instant kLongAgo = Instant(Duration(INT64_MIN / 4));
  Ghost* find(ModelKey model) {
    const auto found = std::find_if(ghosts_.begin(), ghosts_.end(), [&](const Ghost& g) { return g.model == model; });
    return found == ghosts_.end() ? nullptr : &*found;
  }
  Ghost& at(ModelKey model) {
    if (Ghost* known = find(model)) return *known;
    if (ghosts_.size() == bounds::ghosts_max) ghosts_.pop_front();
    Ghost& made = ghosts_.emplace_back();
    made.model = model;
    made.evicted_at = kLongAgo;
    std::fill(std::begin(made.returns), std::end(made.returns), kLongAgo);
    return made;
  }

  std::deque<Ghost> ghosts_;  // as they came
};

// What may be swapped on one GPU: so many cards a minute. Beyond it a request is better off elsewhere.
class SwapBudget {
 public:
  explicit SwapBudget(Units card_total)
      : units_(static_cast<Units>(static_cast<double>(card_total) * bounds::swap_cards_per_window)) {}

  bool allows(Units units, Instant now) {
    advance(now);
    return spent_ + units <= units_;
  }
  void spend(Units units, Instant now) {
    advance(now);
    // Ends of the same millisecond are one: the list is no longer than the window.
    if (!swaps_.empty() && now - swaps_.back().first < milliseconds(100)) {
      swaps_.back().second += units;
    } else {
      swaps_.emplace_back(now, units);
    }
    spent_ += units;
  }

 private:
  void advance(Instant now) {
    while (!swaps_.empty() && swaps_.front().first + milliseconds(bounds::swap_window_ms) <= now) {
      spent_ -= swaps_.front().second;
      swaps_.pop_front();
    }
  }

  Units units_;
  Units spent_ = 0;
  std::deque<std::pair<Instant, Units>> swaps_;
};

}  // namespace mesh::gpu
