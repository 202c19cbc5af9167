#include "common/routing/soonest.h"

namespace mesh::routing {
namespace {

bool is_worth_moving(const Prospect& to, const Prospect& from) {
  const double gain_s = answer_s(from) - answer_s(to);
  return gain_s >= kSoonestGainMin * answer_s(from) && gain_s >= kSoonestGainMin_s;
}

std::optional<size_t> soonest_of(std::span<const Prospect> prospects) {
  std::optional<size_t> best;
  for (size_t i = 0; i < prospects.size(); ++i) {
    if (prospects[i].available && (!best || answer_s(prospects[i]) < answer_s(prospects[*best]))) best = i;
  }
  return best;
}

}  // namespace

std::optional<Soonest> soonest(std::span<const Prospect> prospects, std::optional<size_t> current) {
  const std::optional<size_t> best = soonest_of(prospects);
  if (!best) return std::nullopt;
  size_t stay = current.value_or(prospects.size());
  const bool can_stay = stay < prospects.size() && prospects[stay].available;
  for (size_t i = 0; !can_stay && i < prospects.size(); ++i) {
    if (prospects[i].available && prospects[i].own_host) stay = i;
  }
  const bool is_somewhere = stay < prospects.size() && prospects[stay].available;
  if (is_somewhere && stay != *best && !is_worth_moving(prospects[*best], prospects[stay])) return Soonest{stay, true};
  return Soonest{*best, false};
}

}  // namespace mesh::routing
