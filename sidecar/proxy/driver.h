// Marries the engine to the world: bytes become events, actions become bytes. It decides nothing.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "common/base/prng.h"
#include "common/base/record_store.h"
#include "common/routing/call_table.h"
#include "sidecar/proxy/admin_session.h"
#include "sidecar/proxy/agent_session.h"
#include "sidecar/proxy/arbiter_link.h"
#include "sidecar/proxy/client_session.h"
#include "sidecar/proxy/engine.h"
#include "sidecar/proxy/gathering_room.h"
#include "sidecar/proxy/link_session.h"
#include "sidecar/proxy/peer_lane.h"
#include "sidecar/proxy/report.h"

namespace mesh::proxy {

// What the process brings: everything that is not the same in a simulation.
struct DriverSettings {
  // Since the computer was started there may have been a process before this one, for whose answers somebody waits.
  bool is_successor = true;
  uint64_t seed = 0;   // for jitter
  uint64_t epoch = 0;  // another process, another number
  // `who` is a name from the configuration, so that lines can be rate-limited by it.
  std::function<void(std::string_view event, std::string_view who, std::string_view text)> log;
  // Who changed what by hand: a line for each. Null: nobody keeps them.
  std::function<void(std::string_view event, std::string_view who, std::string_view text)> audit{};
  // The user that this process runs as, who besides root may change something by the admin socket.
  int64_t own_uid = 0;
  size_t connections_max = limits::connections_max;  // fewer where the process may not open as many files
  std::function<void()> release_memory;  // that is free and still with the process; some time after connections ended
  cache::SharedTier* shared = nullptr;   // of replies, with other sidecars of the host; null: none
  ReplyStore* replies = nullptr;         // of this sidecar's agents, kept on disk; null: none are
  RecordStore* records = nullptr;        // for results that are kept on disk; null: none can be
  PacketChannel* arbiter = nullptr;      // of GPU memory; null if the configuration names none
  std::function<void()> on_drained;      // everything accepted was answered, or the time for that is up
};

class Driver final : public SessionHost,
                     public TurnObserver,
                     public ClientObserver,
                     public AgentObserver,
                     public RecordObserver,
                     public ReplyStoreObserver,
                     public ArbiterLinkObserver,
                     public LinkObserver {
 public:
  // The references must outlive this.
  Driver(Transport& transport, const SidecarConfig& config, DriverSettings settings);
  ~Driver() override;

  // Opens every socket of the configuration and begins to connect to the agents. The error names the socket.
  Result<void> start();
  // Accepts nothing more, answers what it has, then calls on_drained.
  void begin_drain();

  Engine& engine() { return engine_; }

  Transport& transport() override { return transport_; }
  Instant now() override { return transport_.now(); }
  Session& admit(std::unique_ptr<Session> session) override;
  void on_handshake_ended() override { --handshakes_; }
  void set_deadline(Session& session, Instant deadline) override;
  void retire(Session& session) override;
  void call_at_turn_end(Session& session) override;
  void call_next_turn(Session& session) override { in_next_turn_.push_back(session.id()); }
  void report(std::string_view port, const Error& error) override;
  bool ask_room(Session& session, size_t bytes) override;
  void give_room_back(Session& session) override;
  bool is_room_wanted_from(Session& session) const override { return room_.is_wanted_from(session.id()); }
  void judge_idle_bytes() override;
  void on_timer() override;
  void on_turn_ending() override;

 private:
  enum class Kind : uint8_t { kClients, kPeers, kAdmin };
  struct Door;  // a listener and what to do with who comes in
  // Accepted connections that have not shown yet what they want, oldest first; some entries are already done.
  using Newcomers = std::deque<uint64_t>;
  struct PeerLinks {  // accepted connections of one process
    LinkId lane[2] = {0, 0};
  };

  void on_client_request(ClientSession& client, AgentRequested&& request) override;
  void on_client_closed(ClientSession& client) override;
  Outcome stuck_outcome(const ClientPort& port) override;
  contract::Terms terms_for(std::string_view service, std::string_view& method, std::span<const Slice> body) override;
  std::optional<std::string_view> read_key(std::span<const Slice> body, std::string_view field) override;
  void on_agent_connected(AgentIndex agent) override;
  void on_agent_congested(AgentIndex agent) override { tell(AgentCongested{agent}); }
  void on_agent_drained(AgentIndex agent) override { tell(AgentDrained{agent}); }
  void on_agent_replied(AgentReplied&& reply) override;
  void on_agent_lost(AgentIndex agent, std::vector<uint64_t> not_sent, std::string_view reason) override;
  void on_link_up(LinkSession& link, const wire::Hello& hello) override;
  void on_envelope(LinkSession& link, const wire::Envelope& envelope) override;
  void on_loaded(uint64_t ticket, std::optional<StoredReply> reply) override {
    tell(ReplyLoaded{ticket, std::move(reply)});
  }
  void on_erased(uint64_t ticket) override { tell(RepliesErased{.ticket = ticket}); }
  void on_stored(uint64_t ticket, bool is_stored) override { tell(RecordStored{ticket, is_stored}); }
  void on_loaded(uint64_t ticket, std::optional<Slice> value) override { tell(RecordLoaded{ticket, std::move(value)}); }
  void on_arbiter_connected(bool is_connected) override;
  void on_model_granted(uint32_t number) override { tell(ModelGranted{number}); }
  void on_model_queued(uint32_t number) override { tell(ModelQueued{number}); }
  void on_model_refused(uint32_t number, Code code, std::string_view reason) override {
    tell(ModelRefused{number, code, reason});
  }
  void on_model_recalled(uint32_t number) override { tell(ModelRecalled{number}); }
  void on_model_lost(uint32_t number) override { tell(ModelLost{number}); }
  void on_model_looked_at(uint32_t number, const ModelOutlook& outlook) override {
    tell(ModelLookedAt{number, outlook});
  }
  void on_calls_left(const CallsLeft& left) override { engine_.outbound().note(left, now()); }
  void on_peer_lacks_keys(PeerLane& lane, uint64_t call_id) override { tell(PeerLacksKeys{lane.peer(), call_id}); }
  void on_link_closed(LinkSession& link, std::string_view reason) override;
  void on_link_pinged(LinkSession& link) override { tell_standings(link); }

  void admit_to_room(std::span<const uint64_t> sessions);
  bool dismiss_guest(Door& door);
  void make_room(Newcomers& newcomers, size_t count, size_t count_max);
  std::optional<std::string> answer(std::string_view line, AdminSession& admin);
  std::optional<std::string> order_purge(std::string_view json, AdminSession& admin);
  StreamObserver* accept(Door& door, std::unique_ptr<Stream> stream);
  Result<void> open_doors();
  Result<void> open_door(Kind kind, const Endpoint& endpoint, uint32_t mode, ClientPort* port);
  ClientPort* add_port(std::string label, std::string service, contract::Declaration terms, size_t index);
  PeerLane& lane(PeerIndex peer, wire::Lane which) { return *lanes_[peer][static_cast<size_t>(which)]; }
  LinkSession* reply_link(LinkId link, uint64_t call_id, size_t body_bytes);
  wire::Hello hello(wire::Lane lane) const;
  template <class Event>
  void tell(Event&& event);
  void perform();
  void act(ReplyToAgent& action);
  void act(SendToPeer& action);
  void act(CancelAtPeer& action);
  void act(SendReply& action);
  void act(DeliverToAgent& action);
  void add_undelivered(AgentIndex agent, std::vector<uint64_t>& calls) const;
  void act(ReplaceAgentConnection& action);
  void act(TellPeersDraining& action);
  void act(AskLease& action);
  void act(HearPurge& action);
  void act(GrantLease& action);
  void act(TellPurge& action);
  void act(ConfirmPurge& action);
  void act(DialPeer& action);
  void act(AskPurge& action);
  void act(PurgeDone& action);
  void act(NotePurge& action);
  LinkSession* link(LinkId id);
  void act(LoadReply& action);
  void act(StoreReply& action);
  void act(EraseReplies& action);
  void act(PutRecord& action);
  void act(LoadRecord& action);
  void act(EraseRecord& action);
  void act(AskModel& action) { arbiter_->ask(action.model, std::move(action.order)); }
  void act(NoteModelUse& action) { arbiter_->note_use(action.model, action.is_used); }
  void act(NoteModelLoaded& action) { arbiter_->note_loaded(action.model); }
  void act(ReturnModel& action) { arbiter_->give_back(action.model); }
  void act(LookAtModels& action) { arbiter_->look(action.models); }
  void act(TellStandings& action);
  void tell_standings(LinkSession& link);
  void recover();
  void judge_drain();
  // Visits those that peers dialed; the visit may not end one.
  template <class Visit>
  void for_each_peer_link(Visit visit) {
    for (const auto& [key, links] : peer_links_) {
      for (const LinkId id : links.lane) {
        if (auto* session = sessions_.find(id)) visit(static_cast<LinkSession&>(**session));
      }
    }
  }
  void notice_oversleep(Instant at);

  Transport& transport_;
  const SidecarConfig& config_;
  DriverSettings settings_;
  Engine engine_;
  std::optional<ArbiterLink> arbiter_;
  Prng prng_;
  contract::MethodReader methods_;
  Instant started_{};
  Instant drain_until_ = kNever;
  Instant farewell_until_ = kNever;  // so long peers are waited for that do not say that they have heard
  uint64_t taken_bytes_ = 0;         // by them, until now
  bool has_answered_all_ = false;    // of a drain
  Instant armed_for_ = kNever;       // the timer
  Instant grace_until_{};            // nobody is judged by his silence before
  Instant release_at_ = kNever;      // memory
  Instant stuck_until_ = kNever;     // until then a REQ socket may be one that waits for a process before
  Actions actions_;
  Actions acting_;    // those being done; what they cause comes into the other
  size_t acted_ = 0;  // of these
  bool performing_ = false;
  std::vector<std::unique_ptr<ClientPort>> ports_;
  std::vector<std::unique_ptr<Door>> doors_;
  routing::CallTable<std::unique_ptr<Session>> sessions_;
  std::vector<std::unique_ptr<Session>> retired_;
  std::vector<uint64_t> due_;
  std::vector<uint64_t> at_turn_end_;
  std::vector<uint64_t> in_next_turn_;
  std::vector<AgentSession*> agents_;
  std::vector<std::array<PeerLane*, 2>> lanes_;
  std::map<std::string, PeerLinks> peer_links_;
  size_t clients_ = 0;
  size_t handshakes_ = 0;
  GatheringRoom room_;
  Newcomers strangers_;
  Newcomers admins_;
  std::set<uint64_t> json_wanted_;  // who ordered a purge and wants the answer as JSON
};

}  // namespace mesh::proxy
