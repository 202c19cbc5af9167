#include "common/routing/soonest.h"

namespace mesh::routing {
namespace {

bool is_worth_moving(const Prospect& to, const Prospect& from) {
  const double gain_s = answer_s(from) - answer_s(to);
  return gain_s >= kSoonestGainMin * answer_s(from) && gain_s >= kSoonestGainMin_s;
}

// To load it where it is not coming takes the time of a load twice.
bool is_worth_loading(const Prospect& to, const Prospect& coming) {
  const bool loads = to.load_s > 0 && !to.is_coming;
  return !loads || answer_s(coming) - answer_s(to) >= to.load_s;
}

std::optional<size_t> soonest_of(std::span<const Prospect> prospects, bool coming_only = false) {
  std::optional<size_t> best;
  for (size_t i = 0; i < prospects.size(); ++i) {
    if (coming_only && !prospects[i].is_coming) continue;
    if (prospects[i].available && (!best || answer_s(prospects[i]) < answer_s(prospects[*best]))) best = i;
  }
  return best;
}

Soonest soonest_or_current(std::span<const Prospect> prospects, size_t best, std::optional<size_t> current) {
  size_t stay = current.value_or(prospects.size());
  const bool can_stay = stay < prospects.size() && prospects[stay].available;
  for (size_t i = 0; !can_stay && i < prospects.size(); ++i) {
    if (prospects[i].available && prospects[i].own_host) stay = i;
  }
  const bool is_somewhere = stay < prospects.size() && prospects[stay].available;
  if (is_somewhere && stay != best && !is_worth_moving(prospects[best], prospects[stay])) return Soonest{stay, true};
  return Soonest{best, false};
}

}  // namespace

std::optional<Soonest> soonest(std::span<const Prospect> prospects, std::optional<size_t> current) {
  const std::optional<size_t> best = soonest_of(prospects);
  if (!best) return std::nullopt;
  const Soonest chosen = soonest_or_current(prospects, *best, current);
  const std::optional<size_t> coming = soonest_of(prospects, true);
  if (coming && !is_worth_loading(prospects[chosen.index], prospects[*coming])) return Soonest{*coming, true};
  return chosen;
}

}  // namespace mesh::routing
