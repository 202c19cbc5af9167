#include "common/gpu/placement.h"

#include <algorithm>

namespace mesh::gpu {
namespace {

constexpr double kUtilisationMax = 0.95;  // no card is busy for ever
// Of a disk that nobody has measured.
constexpr double kLoadUnknown_gib_per_s = 0.5;

bool is_possible(const Work& work, const Site& site, Instant now) {
  return site.largest >= work.units && (site.is_own_host || now - site.heard_at < kSiteStale);
}

// Whether `a` suits better, where both are about as fast.
bool suits_better(Affinity affinity, const Site& a, const Site& b) {
  switch (affinity) {
    case Affinity::kNone:
      return false;
    case Affinity::kPrimary:
      return a.largest > b.largest;
    case Affinity::kSecondary:
      return a.largest < b.largest;
    case Affinity::kShared:
      return a.users > b.users;
  }
  return false;
}

template <class Which>
std::optional<size_t> fastest_of(const Work& work, std::span<const Site> sites, Instant now, Which which) {
  std::optional<size_t> fastest;
  for (size_t i = 0; i < sites.size(); ++i) {
    if (!is_possible(work, sites[i], now) || !which(sites[i])) continue;
    if (!fastest || predicted_s(work, sites[i]) < predicted_s(work, sites[*fastest])) fastest = i;
  }
  return fastest;
}

}  // namespace

double predicted_s(const Work& work, const Site& site) {
  const double gib_per_s = site.load_gib_per_s > 0 ? site.load_gib_per_s : kLoadUnknown_gib_per_s;
  const double load_s = to_gib(site.missing) / gib_per_s;
  // Of a card that others use, too, each has what they leave: processor sharing.
  const double share = 1 - std::clamp(site.utilisation, 0.0, kUtilisationMax);
  return site.queue_s + site.reclaim_s + load_s + work.service_s * site.slowdown / share + site.network_s;
}

std::optional<size_t> place(const Work& work, std::span<const Site> sites, std::optional<size_t> current, Instant now) {
  const std::optional<size_t> fastest = fastest_of(work, sites, now, [](const Site&) { return true; });
  if (!fastest) return std::nullopt;
  if (!current && fastest_of(work, sites, now, [](const Site& site) { return site.is_coming; })) {
    return fastest_of(work, sites, now, [](const Site& site) { return site.is_coming || site.missing == 0; });
  }
  const double best_s = predicted_s(work, sites[*fastest]);
  if (current && is_possible(work, sites[*current], now)) {
    return best_s <= (1 - kGainMin) * predicted_s(work, sites[*current]) ? fastest : current;
  }
  size_t chosen = *fastest;
  for (size_t i = 0; i < sites.size(); ++i) {
    const bool is_about_as_fast =
        is_possible(work, sites[i], now) && (1 - kGainMin) * predicted_s(work, sites[i]) < best_s;
    if (is_about_as_fast && suits_better(work.affinity, sites[i], sites[chosen])) chosen = i;
  }
  return chosen;
}

}  // namespace mesh::gpu
