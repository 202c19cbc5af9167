// How soon the instances of a service answer calls that compute with a model, as this sidecar knows it: what they say
// with replies and heartbeats, what was sent there since, and what earlier answers took.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>

#include "common/base/instant.h"
#include "common/contract/model_terms.h"
#include "common/routing/soonest.h"
#include "common/telemetry/decision.h"
#include "common/wire/envelope.h"
#include "sidecar/proxy/events.h"
#include "sidecar/proxy/services.h"

namespace mesh::proxy {

class PeerStandings {
 public:
  struct Place {
    ServiceIndex service;
    uint32_t instance;  // of the service
    std::string_view model;
  };
  // It said so. The last word counts.
  void heard(const Place& place, const wire::Standing& standing, Instant now);
  void sent(const Place& place);
  // What was sent then waits there no more.
  void ended(const Place& place, Instant sent_at);
  // A call came back that was `way` on its way and `agent` at its agent.
  void answered(const Place& place, Duration way, Duration agent);
  // What the peer said of its instances does not count any more.
  void forget(PeerIndex peer, const Services& services);

  struct Asked {
    const contract::ModelTerms& model;
    Priority priority;
    uint32_t in_flight;          // that this sidecar has there
    const wire::Standing* said;  // by its own agents just now; null: what was heard counts
    double serve_us;             // that an agent takes, where it is not known
  };
  // What an agent takes there, as it or this sidecar measured it; 0: nobody has.
  double serve_us(const Place& place, const wire::Standing* said) const;
  // For a call with that model.
  telemetry::Forecast forecast(const Place& place, const Asked& asked, Instant now) const;
  static routing::Prospect prospect_of(const telemetry::Forecast& forecast, bool available, bool own_host);

  // Where the last call of the service with the model was sent.
  std::optional<uint32_t> last(ServiceIndex service, std::string_view model) const;
  void chose(const Place& place);

  template <class Visit>
  void for_each(Visit visit) const {  // (service, instance, model, standing, age) of those that said so
    for (const auto& [key, row] : rows_) {
      if (row.heard_at != kNever)
        visit(std::get<0>(key), std::get<1>(key), std::string_view(std::get<2>(key)), row.standing, row.heard_at);
    }
  }

 private:
  struct Row {
    wire::Standing standing{};  // without names
    Instant heard_at = kNever;  // kNever: it has not said anything
    uint32_t sent = 0;          // since then, and not ended
    double way_us = 0;          // there and back, lately
    double serve_us = 0;        // as measured from here, of one that does not say it
  };
  using Key = std::tuple<ServiceIndex, uint32_t, std::string>;
  static Key key_of(const Place& place) { return {place.service, place.instance, std::string(place.model)}; }

  std::map<Key, Row> rows_;
  std::map<std::pair<ServiceIndex, std::string>, uint32_t> last_;
};

}  // namespace mesh::proxy
