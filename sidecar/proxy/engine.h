// The sidecar as a value: one event and the time in, a list of actions out. It knows nothing outside.
#pragma once

#include <algorithm>
#include <type_traits>
#include <utility>

#include "sidecar/proxy/config.h"
#include "sidecar/proxy/counters.h"
#include "sidecar/proxy/errors.h"
#include "sidecar/proxy/events.h"
#include "sidecar/proxy/inbound.h"
#include "sidecar/proxy/outbound.h"
#include "sidecar/proxy/services.h"

namespace mesh::proxy {

class Engine {
 public:
  // `config` must outlive this.
  // Replies are kept in `shared`, too, if it is not null; it must outlive this.
  explicit Engine(const SidecarConfig& config, cache::SharedTier* shared = nullptr)
      : rejector_(config.host + "/" + config.sidecar),
        services_(config),
        shared_(shared),
        purges_(shared != nullptr ? cache::Purges(shared->purge_words()) : cache::Purges()),
        inbound_(config, services_, purges_, shared, counters_, rejector_),
        outbound_(config, services_, inbound_, purges_, shared, counters_, rejector_) {}
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Before anything else; see Inbound::begin(). With `has_disk` replies are kept there, too.
  void begin(uint64_t purge_position, bool has_disk, Instant now, Actions& out) {
    if (has_disk) outbound_.use_disk(shared_ != nullptr ? shared_->book_id() : purge_position);
    inbound_.begin(purge_position, has_disk, now, out);
  }

  // Appends what is to be done to `out`. Events of callers and of connections to peers are outbound's, events of agents
  // and of peers' connections are inbound's.
  template <class Event>
  void on(Event&& event, Instant now, Actions& out) {
    static_assert(!std::is_reference_v<Event>, "events are given away");
    if constexpr (std::is_same_v<Event, DrainRequested>) {
      inbound_.begin_drain();
      outbound_.begin_drain(out);
      out.push_back(TellPeersDraining{});
    } else if constexpr (kIsOutbound<Event>) {
      outbound_.on(std::move(event), now, out);
    } else if constexpr (std::is_same_v<Event, PeerRequested>) {
      const bool is_taken = services_.any_at_home() && outbound_.take_home(event, now, out);
      if (!is_taken) inbound_.on(std::move(event), now, out);
    } else {
      if constexpr (std::is_same_v<Event, PeerCancelled>) outbound_.forget_home(event.link, event.call_id);
      if constexpr (std::is_same_v<Event, LinkClosed>) outbound_.forget_home(event.link, std::nullopt);
      inbound_.on(std::move(event), now, out);
    }
    hand_over(now, out);
  }

  // The earliest time at which on_time() has something to do.
  Instant next_deadline() const { return std::min(inbound_.next_deadline(), outbound_.next_deadline()); }
  void on_time(Instant now, Actions& out) {
    inbound_.on_time(now, out);
    hand_over(now, out);
    outbound_.on_time(now, out);
    hand_over(now, out);
  }

  // Nobody waits for anything.
  bool idle() const { return inbound_.open_calls() == 0 && outbound_.open_calls() == 0; }

  // What of the books does not agree with the open calls; empty if all does. For simulations.
  std::string audit() { return outbound_.audit() + inbound_.audit(); }

  Counters& counters() { return counters_; }
  Services& services() { return services_; }
  Inbound& inbound() { return inbound_; }
  Outbound& outbound() { return outbound_; }
  const Rejector& rejector() const { return rejector_; }

 private:
  template <class Event>
  static constexpr bool kIsOutbound =
      std::is_same_v<Event, AgentRequested> || std::is_same_v<Event, ClientClosed> ||
      std::is_same_v<Event, PeerReplied> || std::is_same_v<Event, PeerConnected> || std::is_same_v<Event, PeerLost> ||
      std::is_same_v<Event, PeerDraining> || std::is_same_v<Event, PeerLacksKeys> ||
      std::is_same_v<Event, PeerLeased> || std::is_same_v<Event, PeerPurged> || std::is_same_v<Event, ReplyLoaded> ||
      std::is_same_v<Event, PurgeWanted> || std::is_same_v<Event, PurgeConfirmed> || std::is_same_v<Event, PeerStood>;

  // Outcomes of calls that stay in this sidecar. Giving one over may start another attempt here, so until none is left.
  void hand_over(Instant now, Actions& out) {
    while (!inbound_.local_outcomes().empty()) {
      Inbound::LocalOutcome local = std::move(inbound_.local_outcomes().back());
      inbound_.local_outcomes().pop_back();
      outbound_.on_local_outcome(std::move(local), now, out);
    }
    if (inbound_.ended_orders().empty()) [[likely]]
      return;
    for (const uint64_t order : std::exchange(inbound_.ended_orders(), {})) outbound_.on_own_purged(order, now, out);
  }

  Counters counters_;
  Rejector rejector_;
  Services services_;
  cache::SharedTier* shared_;
  cache::Purges purges_;
  Inbound inbound_;
  Outbound outbound_;
};

}  // namespace mesh::proxy
