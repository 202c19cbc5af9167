// How soon the agents of this sidecar answer calls that compute with a model: what is told to those who choose between
// this host and others.
//
// A restaurant that says at the door how long the queue is, how long the kitchen takes, and whether the oven is hot.
// The oven is the arbiter's affair, which is asked once a second.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "common/base/instant.h"
#include "common/wire/envelope.h"
#include "sidecar/proxy/config.h"
#include "sidecar/proxy/events.h"
#include "sidecar/proxy/model_leases.h"
#include "sidecar/proxy/services.h"

namespace mesh::proxy {

class OwnStandings {
 public:
  // One for each service with agents here and each model that it computes with. Interns the models, if an arbiter is
  // configured. The references must outlive this.
  OwnStandings(const SidecarConfig& config, const Services& services, ModelLeases& leases);

  // kNoStanding if agents here do not serve it.
  StandingIndex find(ServiceIndex service, std::string_view model) const;
  bool empty() const { return standings_.empty(); }
  size_t size() const { return standings_.size(); }
  ServiceIndex service(StandingIndex index) const { return standings_[index].service; }
  ModelIndex model(StandingIndex index) const { return standings_[index].model; }
  // Whether an agent that gets a call now has what it needs: what it takes then is no loading.
  bool is_loaded(StandingIndex index) const;

  // An agent that had the model loaded has answered a call that it had for so long.
  void served(StandingIndex index, Duration agent_time);
  void looked_at(const ModelLookedAt& event, Instant now);
  // What has just happened may have changed where a model is: it is looked at anew, and told if it has.
  void settle(Instant now, Actions& out);

  // As it is to be told, but for the queue in front of the agents; the names live as long as the configuration.
  wire::Standing standing(StandingIndex index, Instant now) const;

  Instant next_deadline() const { return standings_.empty() ? kNever : std::min(look_at_, tell_at_); }
  void on_time(Instant now, Actions& out);

 private:
  struct Told {
    wire::ModelPlace place = wire::ModelPlace::kUnknown;
    bool never_fits = false;
    uint32_t usable_in = 0;  // as a power of two
    uint32_t pressure = 0;
    uint32_t band = 0;
    bool operator==(const Told&) const = default;
  };
  struct Standing {
    ServiceIndex service = 0;
    const contract::ModelTerms* terms = nullptr;
    ModelIndex model = 0;
    double serve_us = 0;
    ModelLeases::State state = ModelLeases::State::kNone;
    Instant changed_at{};  // to that
    ModelOutlook outlook{};
    Instant looked_at = kNever;
    Told told{};
  };
  void look(Instant now, Actions& out);
  Told to_tell(StandingIndex index, Instant now) const;
  bool is_known(const Standing& standing, Instant now) const;

  const Services& services_;
  ModelLeases& leases_;
  bool is_managed_;  // memory is leased
  std::vector<Standing> standings_;
  Instant look_at_ = kNever;
  Instant looked_at_{};
  Instant tell_at_ = kNever;
  Instant told_at_{};
};

}  // namespace mesh::proxy
