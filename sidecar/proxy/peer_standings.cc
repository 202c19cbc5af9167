#include "sidecar/proxy/peer_standings.h"

#include <algorithm>

#include "common/base/ewma.h"

namespace mesh::proxy {
namespace {

// What nobody can foresee is worse than anything that somebody can.
constexpr double kForesight_us_max = 300e6;
constexpr uint32_t kHot = 2;

// How much longer the next call waits for those that were sent after that was said.
double queued_us(const wire::Standing& said, uint32_t sent, double serve_us) {
  const uint32_t unfelt = said.free > 0 ? said.free - 1 : 0;
  return sent <= unfelt ? 0 : (sent - unfelt) * serve_us / std::max<uint32_t>(said.at_once, 1);
}

uint32_t whole(double us) { return static_cast<uint32_t>(std::clamp(us, 0.0, kForesight_us_max)); }

}  // namespace

void PeerStandings::heard(const Place& place, const wire::Standing& standing, Instant now) {
  Row& row = rows_[key_of(place)];
  row.standing = standing;
  row.standing.service = row.standing.model = {};
  row.heard_at = now;
  row.sent = 0;
}

void PeerStandings::sent(const Place& place) { ++rows_[key_of(place)].sent; }

// What was sent before the last word is in it.
void PeerStandings::ended(const Place& place, Instant sent_at) {
  Row& row = rows_[key_of(place)];
  if (row.sent > 0 && sent_at >= row.heard_at) --row.sent;
}

void PeerStandings::answered(const Place& place, Duration way, Duration agent) {
  Row& row = rows_[key_of(place)];
  blend(row.way_us, static_cast<double>(to_us(way)));
  if (row.heard_at == kNever) blend(row.serve_us, static_cast<double>(to_us(agent)));
}

void PeerStandings::forget(PeerIndex peer, const Services& services) {
  for (auto& [key, row] : rows_) {
    const Instance& instance = services[std::get<0>(key)].instances[std::get<1>(key)];
    if (!instance.local && instance.peer == peer) row.heard_at = kNever, row.sent = 0;
  }
}

double PeerStandings::serve_us(const Place& place, const wire::Standing* said) const {
  if (said != nullptr) return said->serve_us;
  const auto found = rows_.find(key_of(place));
  if (found == rows_.end()) return 0;
  const Row& row = found->second;
  return row.heard_at != kNever && row.standing.serve_us > 0 ? row.standing.serve_us : row.serve_us;
}

telemetry::Forecast PeerStandings::forecast(const Place& place, const Asked& asked, Instant now) const {
  telemetry::Forecast forecast;
  const auto found = rows_.find(key_of(place));
  Row row = found == rows_.end() ? Row{} : found->second;
  if (asked.said != nullptr) row.standing = *asked.said, row.heard_at = now, row.sent = 0;
  const wire::Standing& said = row.standing;
  forecast.way_us = whole(row.way_us);
  const double measured_us = this->serve_us(place, asked.said);
  const double serve_us = measured_us > 0 ? measured_us : asked.serve_us;
  if (row.heard_at == kNever) {
    forecast.wait_us = whole(asked.in_flight * serve_us);
    forecast.load_us = whole(1000.0 * static_cast<double>(asked.model.expected_load_ms()));
    forecast.serve_us = whole(serve_us);
    return forecast;
  }
  const auto elapsed_us = static_cast<double>(to_us(now - row.heard_at));
  forecast.is_known = true;
  forecast.place = said.place;
  forecast.never_fits = said.never_fits;
  forecast.pressure = static_cast<uint8_t>(std::min<uint32_t>(said.pressure, UINT8_MAX));
  forecast.band = static_cast<uint8_t>(std::min<uint32_t>(said.band, UINT8_MAX));
  forecast.age_ms = whole(said.age_ms + elapsed_us / 1000);
  forecast.serve_us = whole(serve_us);
  forecast.wait_us = whole(std::max(said.wait_us - elapsed_us, 0.0) + queued_us(said, row.sent, serve_us));
  const bool is_there = said.place == wire::ModelPlace::kResident || said.place == wire::ModelPlace::kUnmanaged;
  double load_us = is_there ? 0 : 1000.0 * said.usable_in_ms;
  if (said.place == wire::ModelPlace::kLoading) load_us = std::max(load_us - elapsed_us, 0.0);
  // Batch work gets no memory of a hot card.
  if (!is_there && asked.priority == Priority::kBatch && said.band >= kHot) load_us = kForesight_us_max;
  forecast.load_us = whole(load_us);
  return forecast;
}

routing::Prospect PeerStandings::prospect_of(const telemetry::Forecast& forecast, bool available, bool own_host) {
  return {.available = available && !forecast.never_fits,
          .own_host = own_host,
          .is_coming = forecast.place == wire::ModelPlace::kLoading,
          .wait_s = forecast.wait_us / 1e6,
          .load_s = forecast.load_us / 1e6,
          .way_s = forecast.way_us / 1e6,
          .serve_s = forecast.serve_us / 1e6};
}

std::optional<uint32_t> PeerStandings::last(ServiceIndex service, std::string_view model) const {
  const auto found = last_.find({service, std::string(model)});
  return found == last_.end() ? std::nullopt : std::optional(found->second);
}

void PeerStandings::chose(const Place& place) { last_[{place.service, std::string(place.model)}] = place.instance; }

}  // namespace mesh::proxy
