#include "sidecar/proxy/own_standings.h"

#include <algorithm>
#include <bit>

#include "common/base/ewma.h"

namespace mesh::proxy {
namespace {

using State = ModelLeases::State;

constexpr int64_t kLook_ms = 1000;
// What just changed is looked at sooner, but not again and again.
constexpr int64_t kLookSoon_ms = 50;
constexpr int64_t kTell_ms_min = 100;
// An arbiter that says nothing for so long is not there.
constexpr int64_t kOutlookBelieved_ms = 5000;

uint32_t to_ms(Duration span) { return static_cast<uint32_t>(std::clamp<int64_t>(to_us(span) / 1000, 0, UINT32_MAX)); }

uint32_t load_ms_of(const contract::ModelTerms& terms) {
  return static_cast<uint32_t>(std::min<int64_t>(terms.expected_load_ms(), UINT32_MAX));
}

}  // namespace

OwnStandings::OwnStandings(const SidecarConfig& config, const Services& services, ModelLeases& leases)
    : services_(services), leases_(leases), is_managed_(!config.arbiter_path.empty()) {
  for (ServiceIndex i = 0; i < services.size(); ++i) {
    if (services[i].agents.empty()) continue;
    for (const contract::ModelTerms* terms : config.contracts.models(services[i].name)) {
      standings_.push_back({.service = i, .terms = terms, .model = is_managed_ ? leases.intern(*terms) : 0});
    }
  }
  if (is_managed_ && !standings_.empty()) look_at_ = Instant{};
}

StandingIndex OwnStandings::find(ServiceIndex service, std::string_view model) const {
  for (StandingIndex i = 0; i < standings_.size(); ++i) {
    if (standings_[i].service == service && standings_[i].terms->name == model) return i;
  }
  return kNoStanding;
}

bool OwnStandings::is_loaded(StandingIndex index) const {
  return !is_managed_ || leases_.readiness(standings_[index].model).is_loaded;
}

void OwnStandings::served(StandingIndex index, Duration agent_time) {
  blend(standings_[index].serve_us, static_cast<double>(to_us(agent_time)));
}

void OwnStandings::looked_at(const ModelLookedAt& event, Instant now) {
  for (Standing& standing : standings_) {
    if (standing.model == event.model) standing.outlook = event.outlook, standing.looked_at = now;
  }
}

// What was said of it before it came or went is of another time.
bool OwnStandings::is_known(const Standing& standing, Instant now) const {
  return standing.looked_at != kNever && standing.looked_at >= standing.changed_at &&
         now - standing.looked_at < milliseconds(kOutlookBelieved_ms);
}

wire::Standing OwnStandings::standing(StandingIndex index, Instant now) const {
  const Standing& own = standings_[index];
  wire::Standing told{.service = services_[own.service].name,
                      .model = own.terms->name,
                      .serve_us = static_cast<uint32_t>(std::min<double>(own.serve_us, UINT32_MAX))};
  if (!is_managed_) {
    told.place = wire::ModelPlace::kUnmanaged;
    return told;
  }
  const ModelLeases::Readiness readiness = leases_.readiness(own.model);
  if (is_known(own, now)) {
    told.place = own.outlook.place;
    told.never_fits = own.outlook.never_fits;
    told.usable_in_ms = own.outlook.usable_in_ms;
    told.pressure = own.outlook.pressure;
    told.band = own.outlook.band;
    told.age_ms = to_ms(now - own.looked_at);
  } else {
    told.usable_in_ms = load_ms_of(*own.terms);
  }
  // What is held here is known better than the arbiter does.
  if (readiness.state == State::kHeld) {
    told.place = readiness.is_loaded ? wire::ModelPlace::kResident : wire::ModelPlace::kLoading;
    const auto loading_ms = static_cast<int64_t>(to_ms(now - readiness.granted_at));
    told.usable_in_ms =
        readiness.is_loaded ? 0 : static_cast<uint32_t>(std::max<int64_t>(load_ms_of(*own.terms) - loading_ms, 0));
    told.never_fits = false;
  } else if (readiness.state == State::kAsked) {
    told.place = wire::ModelPlace::kLoading;
  } else if (told.place == wire::ModelPlace::kResident || told.place == wire::ModelPlace::kLoading) {
    // As somebody else's shared weights, or what is about to be given back.
    told.place = wire::ModelPlace::kCached;
    told.usable_in_ms = std::max(told.usable_in_ms, load_ms_of(*own.terms));
  }
  return told;
}

OwnStandings::Told OwnStandings::to_tell(StandingIndex index, Instant now) const {
  const wire::Standing told = standing(index, now);
  return {.place = told.place,
          .never_fits = told.never_fits,
          .usable_in = static_cast<uint32_t>(std::bit_width(told.usable_in_ms / 128)),
          .pressure = told.pressure,
          .band = told.band};
}

void OwnStandings::settle(Instant now, Actions& out) {
  bool is_news = false;
  for (StandingIndex i = 0; i < standings_.size(); ++i) {
    Standing& standing = standings_[i];
    const State state = is_managed_ ? leases_.readiness(standing.model).state : State::kNone;
    if (state != standing.state) {
      standing.state = state;
      standing.changed_at = now;
      if (state != State::kHeld) look_at_ = std::min(look_at_, std::max(now, looked_at_ + milliseconds(kLookSoon_ms)));
    }
    is_news = is_news || standing.told != to_tell(i, now);
  }
  if (!is_news || tell_at_ != kNever) return;
  tell_at_ = std::max(now, told_at_ + milliseconds(kTell_ms_min));
  if (tell_at_ <= now) on_time(now, out);
}

void OwnStandings::on_time(Instant now, Actions& out) {
  if (look_at_ <= now) look(now, out);
  if (tell_at_ > now) return;
  tell_at_ = kNever;
  told_at_ = now;
  for (StandingIndex i = 0; i < standings_.size(); ++i) standings_[i].told = to_tell(i, now);
  out.push_back(TellStandings{});
}

void OwnStandings::look(Instant now, Actions& out) {
  looked_at_ = now;
  look_at_ = now + milliseconds(kLook_ms);
  LookAtModels look;
  for (const Standing& standing : standings_) {
    const auto is_it = [&](const auto& other) { return other.first == standing.model; };
    if (std::any_of(look.models.begin(), look.models.end(), is_it)) continue;
    look.models.emplace_back(standing.model, ModelLeases::order_of(*standing.terms, Priority::kNormal));
  }
  out.push_back(std::move(look));
}

}  // namespace mesh::proxy
