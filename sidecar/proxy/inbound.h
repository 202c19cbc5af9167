// Calls to the agents of this sidecar, from peers and from callers on this sidecar.
//
// A REP agent works on one request at a time. Its sidecar is the waiting room in front of it: whoever is more urgent
// and has less time left is called first, and whose time is up is told so in the waiting room, not inside.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

#include "common/cache/purges.h"
#include "common/cache/request.h"
#include "common/cache/shared_tier.h"
#include "common/routing/call_table.h"
#include "common/routing/keyed_calls.h"
#include "common/wire/kept_record.h"
#include "sidecar/proxy/config.h"
#include "sidecar/proxy/counters.h"
#include "sidecar/proxy/errors.h"
#include "sidecar/proxy/events.h"
#include "sidecar/proxy/model_leases.h"
#include "sidecar/proxy/own_standings.h"
#include "sidecar/proxy/purge_rounds.h"
#include "sidecar/proxy/services.h"

namespace mesh::proxy {

// Who gets the outcome: a peer's link, or with link 0 an outbound call of this sidecar.
struct Origin {
  LinkId link = 0;
  uint64_t call_id = 0;
};

struct InboundRequest {
  Origin origin;
  ServiceIndex service = 0;
  std::string_view method;
  Instant deadline;
  Priority priority = Priority::kNormal;
  uint32_t decompress_us = 0;                // before now
  const wire::Delivery* delivery = nullptr;  // may be null; only for the time of the call of accept()
  Payload payload;
};

class Inbound {
 public:
  // The references must outlive this.
  Inbound(const SidecarConfig& config, Services& services, cache::Purges& purges, cache::SharedTier* shared,
          Counters& counters, const Rejector& rejector);

  // Before anything else, where there may have been a process before; see PurgeRounds::begin().
  // What a process before had given to agents to write, and did not live to tell of, is wrong.
  void begin(uint64_t purge_position, bool has_disk, Instant now, Actions& out);
  // How often something became wrong here, from a number that no process before had.
  uint64_t purge_position() const { return rounds_.position(); }

  void on(PeerRequested&& event, Instant now, Actions& out);
  void on(const PeerCancelled& event, Instant now, Actions& out);
  void on(const LinkClosed& event, Instant now, Actions& out);
  void on(const AgentConnected& event, Instant now, Actions& out);
  void on(const AgentCongested& event, Instant now, Actions& out);
  void on(const AgentDrained& event, Instant now, Actions& out);
  void on(AgentReplied&& event, Instant now, Actions& out);
  void on(const AgentLost& event, Instant now, Actions& out);
  void on(const LeaseAsked& event, Instant now, Actions& out);
  void on(const PurgeAsked& event, Instant now, Actions& out);
  void on(const PurgeHeard& event, Instant now, Actions& out);
  // Another instance of a service here says what became wrong: whoever keeps replies of this one's hears of it before
  // the other does that they have.
  void relay(const PeerPurged& event, Instant now, Actions& out);
  // The connection over which it said so is lost: whoever is there next has not said it, and is not told.
  void forget_relays_of(PeerIndex peer);
  void on(const RepliesErased& event, Instant now, Actions& out);
  // What one of the names has is gone from the disk as soon as that can be; nobody waits.
  void erase_on_disk(std::span<const uint64_t> names, Actions& out);
  // What is read from the disk now may be what was just declared wrong.
  bool is_being_erased(const cache::Names& names) const;
  // A purge that was ordered at this sidecar; once nobody gives it any more it is one of ended_orders(), to be
  // collected after each event. It never is if the disk does not erase it within limits::erasure_ms_max.
  void purge_for(uint64_t order, std::span<const uint64_t> names, Instant now, Actions& out);
  std::vector<uint64_t>& ended_orders() { return ended_orders_; }
  void on(const RecordStored& event, Instant now, Actions& out);
  void on(const RecordLoaded& event, Instant now, Actions& out);
  // A record of so many bytes that was found at the start, by its head.
  void remember(const wire::Digest& key, const wire::KeptRecord& head, Duration age, uint64_t bytes);
  // There is a store, and all that is in it has been told: calls of durable methods are taken.
  void use_records(Instant now, Actions& out);
  void on(const ModelGranted& event, Instant now, Actions& out);
  void on(const ModelQueued& event, Instant now, Actions& out);
  void on(const ModelRefused& event, Instant now, Actions& out);
  void on(const ModelRecalled& event, Instant now, Actions& out);
  void on(const ModelLost& event, Instant now, Actions& out);
  void on(const ModelLookedAt& event, Instant now, Actions& out);
  const ModelLeases& models() const { return models_; }
  // How soon agents here answer: of all services and models, in turn.
  const OwnStandings& standings() const { return standings_; }
  wire::Standing standing(StandingIndex index, Instant now) const;
  // A call from this sidecar's own outbound side.
  void accept(InboundRequest&& request, Instant now, Actions& out);
  void cancel(const Origin& origin, Instant now, Actions& out);

  void begin_drain() { draining_ = true; }
  // Calls that somebody still waits for.
  size_t open_calls() const { return live_ + held_.size(); }
  uint64_t queued_bytes() const { return queued_bytes_; }

  Instant next_deadline() const {
    const Instant calls = std::min(calls_.next_deadline(), keyed_calls_.next_deadline());
    const Instant models = models_.size() == 0 ? kNever : std::min(models_.next_deadline(), standings_.next_deadline());
    return std::min(rounds_.empty() ? calls : std::min(calls, rounds_.next_deadline()), models);
  }
  void on_time(Instant now, Actions& out);

  // Outcomes for calls of this sidecar's own outbound side, to be collected after each event.
  struct LocalOutcome {
    uint64_t call_id;
    Outcome outcome;
    wire::CalleeSpans spans;
  };
  std::vector<LocalOutcome>& local_outcomes() { return local_outcomes_; }

  // What of the books does not agree with the open calls; empty if all does.
  std::string audit();

  struct OpenCall {
    uint64_t id;
    std::string_view agent;
    std::string_view state;
    std::string_view priority;
    int64_t left_ms;
  };
  std::vector<OpenCall> open(Instant now);
  struct AgentView {
    bool connected;
    uint32_t working;
    size_t queued;
  };
  AgentView view(AgentIndex agent) const;

 private:
  enum class State : uint8_t {
    kQueued,
    kDelivered,
    kAbandoned,  // nobody waits any more, but the serial agent still works on it, or the result is to be kept
    // Only with a key:
    kIntending,  // that it is going to be executed is being written down
    kKeeping,    // so is how it ended
  };
  // Somebody who waits for a call with a key.
  struct Waiter {
    Origin origin;
    Instant since;
  };
  struct Keyed {
    wire::Digest key;
    wire::Digest payload;
    bool is_durable = false;
    Instant give_up_at = kNever;  // the agent is not waited for any longer, whoever asks again meanwhile
    std::vector<Waiter> waiters;
    Outcome outcome;           // while it is being written down
    uint64_t purge_round = 0;  // that is to end before anybody is told that it ended
  };
  static constexpr ModelIndex kNoModel = UINT32_MAX;
  struct Call {
    Origin origin;
    ServiceIndex service = 0;
    AgentIndex agent = 0;
    State state = State::kQueued;
    Priority priority = Priority::kNormal;
    Instant deadline{};
    Instant connect_by{};
    Instant accepted_at{};
    Instant delivered_at = kNever;
    uint32_t decompress_us = 0;
    uint64_t max_bytes = 0;
    uint64_t bytes = 0;
    bool is_sensitive = false;
    bool has_model = false;     // and is one of its users, else it waits for it
    bool was_loaded = false;    // when the agent got it
    bool was_answered = false;  // by its agent
    ModelIndex model = kNoModel;
    StandingIndex standing = kNoStanding;
    std::unique_ptr<Keyed> keyed;                   // null for calls without a key
    std::unique_ptr<std::vector<uint64_t>> wrongs;  // names of kept replies that it makes wrong
    Payload payload;
  };
  using QueueKey = std::tuple<Priority, Instant, uint64_t>;
  struct Agent {
    bool connected = false;
    bool was_connected = false;
    uint32_t pid = 0;        // see AgentConnected
    bool congested = false;  // what it is given now would only wait outside, where it cannot be taken back
    uint32_t working = 0;    // delivered or abandoned
    uint64_t sole = 0;       // the delivered call, where replies carry no id
    uint64_t queued_bytes = 0;
    uint32_t intending = 0;  // are to be queued
    bool is_timed = false;   // its service computes with models
    double answer_us = 0;    // what it takes, lately
    std::set<QueueKey> queue;
  };

  bool takes_more(AgentIndex index) const;
  AgentIndex pick_agent(const Service& service) const;
  static wire::CalleeSpans arrived(Instant now, uint32_t decompress_us);
  static wire::CalleeSpans spans_of(const Call& call, Instant now);
  void admit(uint64_t id, Instant now, Actions& out);
  static bool lacks_model(const Call& call) { return call.model != kNoModel && !call.has_model; }
  void leave_model(uint64_t id, const Call& call, Instant now, Actions& out);
  void note_process(AgentIndex index, uint32_t pid, Instant now, Actions& out);
  // Whether all connected agents that may use the model are of that process.
  bool is_only_user(uint32_t pid, ModelIndex model) const;
  void take_back_model(ModelIndex model);
  void note_answer(const Call& call, Instant now);
  void tell_queue(const Service& service, wire::Standing& standing) const;
  void close(uint64_t id, Instant now, Actions& out);
  void finish(uint64_t id, Outcome&& outcome, Instant now, Actions& out);
  void answer(const Origin& origin, Outcome&& outcome, const wire::CalleeSpans& spans, Actions& out,
              bool is_sensitive = false, StandingIndex standing = kNoStanding);
  Outcome late_outcome(const Call& call, Instant now) const;
  void abandon(uint64_t id, Instant now, Actions& out);
  void replace_connection(AgentIndex index, Actions& out);
  void unqueue(uint64_t id, Call& call);
  void deliver(uint64_t id, Call& call, Instant now, Actions& out);
  void pump(AgentIndex index, Instant now, Actions& out);
  void expire(uint64_t id, Instant now, Actions& out);
  bool frees_slot_at_deadline(const Call& call) const;

  // Replies that are kept, here and elsewhere.
  struct Held {  // until nobody gives any more what it made wrong
    uint64_t round;
    Origin origin;  // of call 0: who asked for the purge, or if that is no link, the peer that told of it
    PeerIndex peer = 0;
    uint64_t token = 0;
    uint64_t order = 0;  // if not 0, it alone counts
    Outcome outcome;
    wire::CalleeSpans spans;
    bool is_sensitive = false;
    bool is_relay() const { return order == 0 && origin.call_id == 0 && origin.link == 0; }
    bool is_order() const { return order != 0 || (origin.call_id == 0 && origin.link != 0); }
  };
  std::unique_ptr<std::vector<uint64_t>> wrongs_of(const InboundRequest& request, const contract::Terms& terms);
  uint64_t make_wrong(const Call& call, const Outcome& outcome, Instant now, Actions& out);
  uint64_t make_wrong_again(const InboundRequest& request, Code ended_with, Instant now, Actions& out);
  uint64_t purge(std::span<const uint64_t> names, bool is_relayed, bool erases, Instant now, Actions& out);
  void release_after(uint64_t round, Held&& held, Actions& out);
  void answer_after(uint64_t round, const Origin& origin, Outcome&& outcome, const wire::CalleeSpans& spans,
                    bool is_sensitive, Actions& out);
  void release(Held& held, Actions& out);
  void release_ended(Instant now, Actions& out);
  bool is_erasing_for(uint64_t round) const;

  // Calls with a key.
  struct Asked {
    wire::Digest key;
    wire::Digest payload;
  };
  Asked asked_of(const InboundRequest& request, const contract::Terms& terms);
  wire::Digest payload_of_any_attempt(const InboundRequest& request);
  bool answer_known(const InboundRequest& request, const Asked& asked, Instant now, Actions& out);
  void answer_ended(const InboundRequest& request, const Asked& asked, Instant now, Actions& out);
  void join(uint64_t id, const InboundRequest& request, Instant now, Actions& out);
  void intend(uint64_t id, Instant now, Actions& out);
  void forget_old_keys(Instant now, Actions& out);
  void end_keyed(uint64_t id, Outcome&& outcome, Instant now, Actions& out);
  void keep(uint64_t id, Outcome&& outcome, Instant now, Actions& out);
  void close_keyed(uint64_t id, Outcome&& outcome, Instant now, Actions& out);
  void answer_waiters(Call& call, const Outcome& outcome, Instant now, Actions& out);
  void on_nobody_waits(uint64_t id, Instant now, Actions& out);
  void expire_keyed(uint64_t id, Instant now, Actions& out);
  void give_up_keyed(uint64_t id, Instant now, Actions& out);
  // Of this call, or without one of all calls on the link.
  void drop_waiters(LinkId link, std::optional<uint64_t> call_id, Instant now, Actions& out);

  const SidecarConfig& config_;
  Services& services_;
  Counters& counters_;
  const Rejector& rejector_;
  cache::Purges& purges_;
  std::optional<cache::Witness> self_;  // in memory that outlives the process: calls that write and are under way
  cache::RequestReader request_reader_;
  contract::MethodReader method_reader_;
  PurgeRounds rounds_;
  ModelLeases models_;
  OwnStandings standings_;
  struct Erasure {
    uint64_t ticket;
    uint64_t round;         // that waits for it; 0: none
    bool is_noted = false;  // for the next process, if this one does not live to see it
    std::vector<uint64_t> names;
  };
  std::vector<Erasure> erasures_;  // that the disk has not reported
  uint64_t last_erasure_ = 0;
  bool has_disk_ = false;
  std::vector<Held> held_;
  std::vector<uint64_t> ended_rounds_;
  std::vector<uint64_t> ended_orders_;
  std::vector<Agent> agents_;
  routing::CallTable<Call> calls_;
  std::vector<uint64_t> due_;
  std::vector<LocalOutcome> local_outcomes_;
  routing::KeyedCalls keyed_calls_;
  struct Found {
    wire::Digest key;
    wire::KeptRecord head;
    Duration age;
    uint64_t bytes;
  };
  std::vector<Found> found_;  // until all that there was on disk is
  std::vector<wire::Digest> forgotten_;
  struct Loading {
    Waiter waiter;
    bool is_sensitive;
    uint64_t bytes;        // that are going to be in memory
    uint64_t purge_round;  // that is to end before anybody is told
    bool is_wanted = true;
  };
  std::map<uint64_t, Loading> loading_;  // results that are read from disk, by ticket
  uint64_t last_ticket_ = 0;
  bool has_records_ = false;
  size_t live_ = 0;
  uint64_t queued_bytes_ = 0;
  bool draining_ = false;
};

}  // namespace mesh::proxy
