// Calls of the agents beside this sidecar: from the request at a local socket to exactly one outcome there.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "common/cache/memory_tier.h"
#include "common/cache/miss_ratio_curve.h"
#include "common/cache/purges.h"
#include "common/cache/reply.h"
#include "common/cache/request.h"
#include "common/routing/balancer.h"
#include "common/routing/call_table.h"
#include "sidecar/proxy/config.h"
#include "sidecar/proxy/counters.h"
#include "sidecar/proxy/errors.h"
#include "sidecar/proxy/events.h"
#include "sidecar/proxy/inbound.h"
#include "sidecar/proxy/leases.h"
#include "sidecar/proxy/peer_standings.h"
#include "sidecar/proxy/purge_orders.h"
#include "sidecar/proxy/recorder.h"
#include "sidecar/proxy/services.h"
#include "sidecar/proxy/tiered_cache.h"

namespace mesh::proxy {

class Outbound {
 public:
  // The references must outlive this.
  Outbound(const SidecarConfig& config, Services& services, Inbound& inbound, cache::Purges& purges,
           cache::SharedTier* shared, Counters& counters, const Rejector& rejector);

  void on(AgentRequested&& event, Instant now, Actions& out);
  void on(const ClientClosed& event, Instant now, Actions& out);
  // A peer's call to an agent of this sidecar whose replies are kept here: true if it is answered, or will be, with
  // what is kept or fetched to be kept. Else the event is as it was.
  bool take_home(PeerRequested& event, Instant now, Actions& out);
  // A peer's calls that were taken are waited for no more: of all its calls, or of one.
  void forget_home(LinkId link, std::optional<uint64_t> call_id);
  void on(PeerReplied&& event, Instant now, Actions& out);
  void on(const PeerConnected& event, Instant now, Actions& out);
  void on(const PeerLost& event, Instant now, Actions& out);
  void on(const PeerDraining& event, Instant now, Actions& out);
  void on(const PeerStood& event, Instant now, Actions& out);
  void on(const PeerLeased& event, Instant now, Actions& out);
  void on(const PeerPurged& event, Instant now, Actions& out);
  // Whether an agent here and one of the peer's serve the same: what the peer says became wrong is wrong of replies
  // that were given here, too.
  bool shares_service_with(PeerIndex peer) const;
  void on(ReplyLoaded&& event, Instant now, Actions& out);
  void on(const PeerLacksKeys& event, Instant now, Actions& out);
  // Replies of this sidecar's agents are kept on disk, too.
  // `book_id` is of the book of purges: no other has it.
  void use_disk(uint64_t book_id) {
    has_disk_ = true;
    book_id_ = book_id;
  }
  // An order ends with PurgeDone, or with the answer to the call that gave it.
  void on(const PurgeWanted& event, Instant now, Actions& out);
  void on(const PurgeConfirmed& event, Instant now, Actions& out);
  // What was ordered is purged wherever replies of this sidecar's own agents are kept.
  void on_own_purged(uint64_t order, Instant now, Actions& out);
  // For the record: asks for nothing.
  void note(const CallsLeft& left_calls, Instant now);
  // How a call ended that this sidecar's own agents served.
  void on_local_outcome(Inbound::LocalOutcome&& local, Instant now, Actions& out);

  // The lane on which an open call went to its peer; nothing if it is not open or stays in this sidecar.
  std::optional<wire::Lane> lane_of(uint64_t call_id);

  void begin_drain(Actions& out) {
    draining_ = true;
    leases_.give_back(out);
  }
  const Recorder& recorder() const { return recorder_; }
  size_t open_calls() const { return calls_.size() + waiting_.size() + orders_.size(); }
  uint64_t held_bytes() const { return held_bytes_; }

  Instant next_deadline() const {
    const Instant calls =
        std::min({calls_.next_deadline(), waiting_.next_deadline(), renew_leases_at_, orders_.next_deadline()});
    const Instant loaded = loading_.empty() ? kNever : loading_.front().until;
    const Instant validated =
        validating_.empty() ? kNever : validating_.front()->began + milliseconds(limits::lease_wait_ms);
    return std::min({calls, loaded, validated, look_at_, extend_at_});
  }
  void on_time(Instant now, Actions& out);
  void give_up_disk(Instant now, Actions& out);

  // What of the books does not agree with the open calls; empty if all does.
  std::string audit();

  struct OpenCall {
    uint64_t id;
    std::string_view service;
    std::string_view target;
    std::string_view priority;
    int64_t age_ms;
    int64_t left_ms;
  };
  std::vector<OpenCall> open(Instant now);
  struct PeerView {
    bool connected;
    bool draining;
    uint32_t in_flight;
  };
  PeerView view(PeerIndex peer) const;
  const PeerStandings& standings() const { return standings_; }
  const telemetry::ForecastLog& forecasts() const { return forecasts_; }

  // Of each tier that is in use, in the order in which they are looked into.
  struct TierView {
    contract::Tier tier;
    uint64_t entries = 0;
    uint64_t bytes = 0;
    uint64_t budget_bytes = 0;
    uint64_t hits = 0;    // look-ups for which it had something fresh
    uint64_t misses = 0;  // and for which it had not
    uint64_t evicted = 0;
  };
  std::vector<TierView> tiers() const;
  const cache::MemoryTier& memory() const { return kept_.local(); }
  const TieredCache& kept() const { return kept_; }
  const cache::Purges& purges() const { return purges_; }
  // Of memory of another size, up to kCurveReach times that of now; null before the first look-up.
  static constexpr uint64_t kCurveReach = 4;
  const cache::MissRatioCurve* curve() const { return curve_ ? &*curve_ : nullptr; }

 private:
  static constexpr uint32_t kNobody = UINT32_MAX;  // no instance
  struct Fetch;
  struct Call {
    ReturnPath path;
    ServiceIndex service = 0;
    uint32_t instance = 0;
    uint32_t tried = 0;  // bit per instance
    bool idempotent = false;
    bool is_sensitive = false;
    bool is_second_round = false;  // all instances were tried
    bool is_kept = false;          // its payload: it could be sent again
    bool is_hedge = false;         // asked beside another call, which has the way back
    uint64_t twin = 0;             // the other one of the two, as long as both are open
    Duration hedge_after{0};       // 0: never, or no more
    bool may_be_executed = false;  // by an earlier attempt
    Priority priority = Priority::kNormal;
    wire::Lane lane = wire::Lane::kInteractive;
    Instant deadline{};
    Duration linger{0};
    uint32_t linger_count = 1;
    telemetry::Trace trace;
    uint64_t bytes = 0;
    std::string method;
    const contract::ModelTerms* model = nullptr;  // that it computes with
    std::shared_ptr<const CallKey> key;
    std::shared_ptr<Fetch> fetch = nullptr;                   // it is one: nobody's call, for all who wait
    std::unique_ptr<std::vector<uint64_t>> wrongs = nullptr;  // names of kept replies that it makes wrong
    Payload payload;
  };
  // A reply on its way that is going to be kept. Whoever asked first may go: it belongs to nobody.
  struct Fetch {
    cache::Key key;
    const contract::CacheTerms* terms = nullptr;
    ServiceIndex service = 0;
    uint64_t service_name = 0;  // name_hash()es
    uint64_t method_name = 0;
    std::vector<uint64_t> tags;
    std::vector<std::string> echoes;  // that the request has
    uint64_t since = 0;               // cache::Purges::position()
    bool was_leased = false;          // when it was asked for
    uint32_t origin = 0;              // the instance that was asked last
    bool is_sent = false;
    bool is_home = false;  // on behalf of peers, by this sidecar's own agents
    bool was_looked_for_on_disk = false;
    bool was_on_disk = false;
    bool is_compulsory = false;  // what was kept of it had run out, or become wrong
    uint64_t number = 0;         // of the call
    Instant began{};
    Duration budget{0};
    Duration hedge_after{0};
    bool idempotent = false;
    bool is_sensitive = false;
    Priority priority = Priority::kNormal;
    Duration linger{0};
    uint32_t linger_count = 1;
    std::string method;
    const contract::ModelTerms* model = nullptr;
    Payload payload;
    std::vector<uint64_t> waiters;                   // of waiting_
    std::optional<cache::SharedFlights::Mark> mark;  // on this host it is known that it is under way
    bool was_waited_for = false;                     // as another sidecar of this host was fetching it
    Instant look_at{};                               // next, whether that has got it
    cache::Names names() const { return {service_name, method_name, cache::key_name(key.hash), tags}; }
  };
  // A call that is answered by a fetch, and has its own deadline.
  struct Waiting {
    Call call;
    std::shared_ptr<Fetch> fetch;
    std::vector<std::string> echoes;
  };
  struct Peer {
    bool up[2] = {false, false};       // by lane
    bool failing[2] = {false, false};  // the last attempt to connect failed
    bool draining[2] = {false, false};
  };

  // What came with the reply, for the record.
  struct ReplyCost {
    const wire::CalleeSpans* spans = nullptr;
    uint32_t decompress_us = 0;
    const wire::BatchShape* batch = nullptr;
  };
  std::optional<uint32_t> choose(const Call& call, Instant now, telemetry::Choices& choices);
  std::optional<uint32_t> choose_soonest(const Call& call, Instant now, telemetry::Choices& choices);
  void note_model_answer(const Call& call, const wire::CalleeSpans& spans, Instant now);
  telemetry::Choice::State state_of(const Instance& instance, wire::Lane lane, bool was_tried) const;
  std::optional<uint32_t> home_of_reply(const Call& call) const;
  void note_cost(const Call& call, const wire::CalleeSpans& spans, Instant now);
  std::optional<uint32_t> home_of_key(const Call& call, telemetry::Choices& choices) const;
  PeerStandings::Place place_of(const Call& call) const { return {call.service, call.instance, call.model->name}; }
  std::optional<uint32_t> choose_same(Call& call, Code code, Instant now, telemetry::Choices& choices);
  bool try_again(uint64_t id, Code code, Instant now, Actions& out);
  void arm_hedge(uint64_t id, Instant now);
  bool is_hedge_due(const Call& call, Instant now) const;
  void hedge(uint64_t id, Instant now, Actions& out);
  static void take_purpose(Call& to, Call& from);
  bool leave_to_twin(uint64_t id, const Outcome& outcome, Instant now, Actions& out);
  void drop(uint64_t id, Instant now, Actions& out);
  void admit_ignorance(const Call& call, Outcome& outcome) const;
  Outcome no_instance(const Call& call) const;
  telemetry::Trace begin_trace(int64_t budget_us, Instant now) {
    telemetry::Trace trace;
    trace.number = recorder_.next_number();
    trace.started = now;
    trace.budget_us = budget_us;
    return trace;
  }
  void admit(Call&& call, Payload&& payload, Instant now, Actions& out);
  void send(uint64_t id, Payload&& payload, Instant now, Actions& out);
  void leave_instance(const Call& call);
  // It takes no more of so many bytes. What stays in this sidecar is bounded where it goes to.
  bool is_full(const Instance& instance, uint64_t bytes) const;
  // Where others write as well, the peer gives what it keeps only to those who know as much of them as it does.
  uint64_t knowledge_to_tell(const Call& call) const {
    const bool is_needed = call.fetch != nullptr && services_[call.service].has_writes;
    return is_needed ? knowledge_beside(call.service, call.instance) : 0;
  }
  void conclude(uint64_t id, Outcome&& outcome, Instant now, Actions& out) {
    conclude(id, std::move(outcome), {}, now, out);
  }
  void conclude(uint64_t id, Outcome&& outcome, ReplyCost cost, Instant now, Actions& out);
  void finish(Call& call, Outcome&& outcome, ReplyCost cost, Instant now, Actions& out);
  void expire(uint64_t id, Instant now, Actions& out);

  // Replies that are kept.
  bool answer_from_cache(Call& call, const AgentRequested& event, Instant now, Actions& out);
  void give(Call& call, TieredCache::Found found, telemetry::CacheVerdict verdict,
            const std::vector<std::string>& echoes, Instant now, Actions& out);
  static cache::Hash flight_of(const cache::Hash& hash, bool is_home);
  void forget(const std::shared_ptr<Fetch>& fetch);
  std::shared_ptr<Fetch> fetch_under_way(const cache::Key& key, bool is_home, Instant now);
  std::shared_ptr<Fetch> fetch_for(const Call& call, const AgentRequested& event, const cache::Request& request);
  void fetch(const std::shared_ptr<Fetch>& fetch, Instant now, Actions& out);
  void look_further(const std::shared_ptr<Fetch>& fetch, Instant now, Actions& out);
  bool may_be_on_disk(const Fetch& fetch) const;
  uint64_t name_on_disk(const Instance& origin) const;
  void take_from_disk(Fetch& fetch, const StoredReply& stored, Instant now);
  void store(const cache::Kept& kept, const Fetch& fetch, Instant now, Actions& out);
  void renew(const std::shared_ptr<Fetch>& fetch, Instant now, Actions& out);
  bool is_on_its_way(const Fetch& fetch, Instant now) const;
  bool begin_flight(const std::shared_ptr<Fetch>& fetch, Instant now);
  void end_flight(Fetch& fetch);
  void extend_flights(Instant now);
  bool wait_for_host(const std::shared_ptr<Fetch>& fetch, Instant now, Actions& out);
  void look_for_flights(Instant now, Actions& out);
  void give_to_all(const std::shared_ptr<Fetch>& fetch, const TieredCache::Found& found, Instant now, Actions& out);
  void wait(Call call, std::shared_ptr<Fetch> fetch, std::vector<std::string> echoes);
  void land(const std::shared_ptr<Fetch>& fetch, Outcome&& outcome, const wire::CalleeSpans* spans, Instant now,
            Actions& out);
  void reply_to_peer(Call& call, Outcome&& outcome, const wire::CalleeSpans* spans, Instant now, Actions& out);
  telemetry::CacheKeeping keep(const Fetch& fetch, const Outcome& outcome, const cache::Reply& reply, Instant now,
                               Actions& out);
  void expire_waiting(uint64_t id, Instant now, Actions& out);
  // Of those whose way back matches.
  template <class Matches>
  void drop_waiting(Matches matches) {
    std::vector<uint64_t> gone;
    waiting_.for_each([&](uint64_t id, const Waiting& waiter) {
      if (matches(waiter.call.path)) gone.push_back(id);
    });
    for (const uint64_t id : gone) {
      counters_.add(Counter::kCallerGone);
      std::erase(waiting_.close(id).fetch->waiters, id);
    }
  }

  // For whoever wants to know.
  void note_lookup(const cache::Kept* kept, bool is_worth_giving, bool is_given, telemetry::CacheTrace& trace);
  void note_access(uint64_t key_low, uint64_t bytes, bool is_compulsory);
  void note_kept(const Fetch& fetch, uint64_t bytes);
  telemetry::CacheKeeping keeping_of(const Fetch& fetch, const Outcome& outcome, const cache::Reply& reply,
                                     Instant now) const;

  // Purges by order.
  struct PurgeCaller {
    uint64_t ticket = 0;
    std::unique_ptr<Call> call = nullptr;  // null: the ticket counts
    std::string text{};                    // what is purged
  };
  void take_purge(Call& call, const AgentRequested& event, Instant now, Actions& out);
  void order_purge(PurgeCaller&& caller, const PurgeSpec& what, Instant until, Instant now, Actions& out);
  void settle_purges(Instant now, Actions& out);
  Outcome outcome_of(const PurgeCaller& caller, const PurgeOrders::Ended& ended) const;
  void answer_purge(PurgeCaller& caller, Outcome&& outcome, Instant now, Actions& out);

  // Whether they still hold.
  template <class Visit>
  void for_each_witness(ServiceIndex service, uint32_t origin, Visit visit) const;
  bool is_leased(ServiceIndex service, uint32_t origin, Instant now) const;
  bool waits_for_leases(ServiceIndex service, const cache::Kept* worth_giving, Instant now) const;
  void renew_leases(ServiceIndex service, Instant now, Actions& out);
  uint64_t knowledge_beside(ServiceIndex service, uint32_t except) const;
  bool knows_as_much_as(const PeerRequested& caller, ServiceIndex service) const;
  bool needs_leases(const Fetch& fetch) const;
  void watch_leases(const Fetch& fetch, Instant now);
  void renew_leases_of_fetches(Instant now, Actions& out);
  TieredCache::Found find_kept(const Fetch& fetch, Instant now);
  static TieredCache::Role role_of(bool is_home) {
    return is_home ? TieredCache::Role::kHome : TieredCache::Role::kCaller;
  }
  void validate(const std::shared_ptr<Fetch>& fetch, Instant now);
  void go_on_validating(Instant now, Actions& out);
  // No other instance makes wrong what one says.
  bool is_only_writer(ServiceIndex service) const {
    return !services_[service].has_writes || services_[service].instances.size() == 1;
  }
  bool may_keep(const Fetch& fetch, Instant now) const;
  bool may_join(const Fetch& fetch, Instant now) const;
  void void_services_of(PeerIndex peer, uint64_t mark, Actions& out);
  std::unique_ptr<std::vector<uint64_t>> wrongs_of(const AgentRequested& event);
  void make_wrong(const std::vector<uint64_t>& names);
  std::vector<uint64_t> calls_at(PeerIndex peer, wire::Lane lane);
  Instance& instance_of(const Call& call) { return services_[call.service].instances[call.instance]; }

  const SidecarConfig& config_;
  Services& services_;
  Inbound& inbound_;
  Counters& counters_;
  const Rejector& rejector_;
  Recorder recorder_;
  std::vector<Peer> peers_;
  routing::CallTable<Call> calls_;
  std::vector<uint64_t> due_;
  std::vector<routing::Candidate> candidates_;
  uint64_t held_bytes_ = 0;
  bool draining_ = false;
  cache::RequestReader request_reader_;
  cache::ReplyReader reply_reader_;
  TieredCache kept_;
  cache::Purges& purges_;
  PeerStandings standings_;
  telemetry::ForecastLog forecasts_;
  Leases leases_;
  PurgeOrders orders_;
  std::unordered_map<uint64_t, PurgeCaller> purge_callers_;  // by order
  std::optional<cache::MissRatioCurve> curve_;
  std::unordered_map<cache::Hash, std::shared_ptr<Fetch>, cache::HashOfHash> fetches_;
  routing::CallTable<Waiting> waiting_;
  Instant renew_leases_at_ = kNever;
  std::optional<cache::SharedFlights> flights_;           // of this host; nothing if its sidecars share no memory
  std::vector<std::shared_ptr<Fetch>> marked_;            // that others may wait for
  Instant extend_at_ = kNever;                            // next, that they are under way
  std::vector<std::shared_ptr<Fetch>> waiting_for_host_;  // that others of this host have under way
  Instant look_at_ = kNever;
  struct Loading {
    uint64_t ticket;
    std::shared_ptr<Fetch> fetch;
    Instant until;
  };
  bool has_disk_ = false;
  uint64_t book_id_ = 0;
  uint64_t last_load_ = 0;
  std::deque<Loading> loading_;                     // from disk, oldest first
  std::vector<std::shared_ptr<Fetch>> validating_;  // what is kept may be given once a lease is there; oldest first
};

}  // namespace mesh::proxy
