#include "sidecar/proxy/driver.h"

#include <algorithm>
#include <utility>

#include "sidecar/proxy/driver_door.h"

namespace mesh::proxy {
namespace {

// REQ sockets of before reconnect soon after the start: libzmq within 100 ms by default, and who stood still meanwhile
// (a suspended process, one that reads slowly) when it goes on. Later ones are new.
constexpr int64_t kStuckWindow_ms = 60'000;
// Connections come and go in crowds: once for all of them.
constexpr int64_t kReleaseDelay_ms = 1000;
constexpr int64_t kOverslept_ms = 100;
constexpr int64_t kGrace_ms = 250;
constexpr uint32_t kMeshSocketMode = 0660;
constexpr uint32_t kAdminSocketMode = 0600;

}  // namespace

Driver::Driver(Transport& transport, const SidecarConfig& config, DriverSettings settings)
    : transport_(transport),
      config_(config),
      settings_(std::move(settings)),
      engine_(config, settings_.shared),
      prng_(settings_.seed) {}

Driver::~Driver() = default;

// --- start and end ---

Result<void> Driver::start() {
  started_ = now();
  if (auto opened = open_doors(); !opened) return opened;
  if (settings_.replies != nullptr) settings_.replies->set_observer(this);
  engine_.begin(prng_.next(), settings_.replies != nullptr, started_, actions_);
  if (settings_.records != nullptr) recover();
  if (settings_.arbiter != nullptr) {
    arbiter_.emplace(*settings_.arbiter, *this, config_.host + "/" + config_.sidecar);
    arbiter_->start();
  }
  for (AgentIndex i = 0; i < config_.agents.size(); ++i) {
    auto agent = std::make_unique<AgentSession>(*this, *this, config_.agents[i], i, prng_);
    agents_.push_back(agent.get());
    admit(std::move(agent));
  }
  for (PeerIndex i = 0; i < config_.peers.size(); ++i) {
    std::array<PeerLane*, 2> both{};
    for (const wire::Lane which : {wire::Lane::kInteractive, wire::Lane::kBulk}) {
      auto made =
          std::make_unique<PeerLane>(*this, *this, engine_.counters(), config_.peers[i], i, hello(which), prng_);
      both[static_cast<size_t>(which)] = made.get();
      admit(std::move(made));
    }
    lanes_.push_back(both);
  }
  stuck_until_ = settings_.is_successor ? started_ + milliseconds(kStuckWindow_ms) : started_;
  for (AgentSession* agent : agents_) agent->start();
  return {};
}

// Whoever finds one of them taken is not this sidecar, and must leave alone what it knows together with others; the
// last is open for as long as a process lives.
Result<void> Driver::open_doors() {
  if (config_.listen) {
    if (auto opened = open_door(Kind::kPeers, *config_.listen, kMeshSocketMode, nullptr); !opened) return opened;
  }
  for (size_t i = 0; i < config_.ports.size(); ++i) {
    const PortConfig& port = config_.ports[i];
    ClientPort* added = add_port("drop_in:" + port.name, port.service, port.terms, i);
    if (auto opened = open_door(Kind::kClients, port.listen, kMeshSocketMode, added); !opened) return opened;
  }
  if (config_.mesh_socket) {
    ClientPort* added = add_port("mesh", {}, {}, config_.ports.size());
    if (auto opened = open_door(Kind::kClients, *config_.mesh_socket, kMeshSocketMode, added); !opened) return opened;
  }
  const Endpoint admin{.is_ipc = true, .address = config_.admin_path, .port = 0, .text = "ipc://" + config_.admin_path};
  return open_door(Kind::kAdmin, admin, kAdminSocketMode, nullptr);
}

// What processes before this one wrote down of calls with a key.
void Driver::recover() {
  settings_.records->set_observer(this);
  for (const RecordStore::Found& found : settings_.records->recover(wire::kKeptHeadBytes)) {
    if (const auto head = wire::decode_kept_head(found.head.view())) {
      engine_.inbound().remember({found.key}, *head, found.age, found.size);
    } else {
      actions_.push_back(EraseRecord{{found.key}});
    }
  }
  engine_.inbound().use_records(started_, actions_);
  perform();
}

void Driver::on_arbiter_connected(bool is_connected) {
  if (settings_.log) settings_.log(is_connected ? "arbiter_found" : "arbiter_lost", "arbiter", config_.arbiter_path);
}

void Driver::begin_drain() {
  if (drain_until_ != kNever) return;
  drain_until_ = now() + milliseconds(limits::drain_ms);
  farewell_until_ = now() + milliseconds(limits::farewell_ms);
  std::erase_if(doors_, [](const auto& door) { return door->kind != Kind::kAdmin; });
  tell(DrainRequested{});
}

void Driver::act(TellPeersDraining& /*action*/) {
  for_each_peer_link([](LinkSession& link) { link.say_draining(); });
}

// All answered, all bytes out and all peers told, or the time for it is up. A peer that does not answer is not waited
// for as long, unless it still takes in what was sent before.
void Driver::judge_drain() {
  if (drain_until_ == kNever || !settings_.on_drained) return;
  size_t unsent = 0;
  bool may_come_more = false;
  uint64_t taken_bytes = 0;
  sessions_.for_each([&](uint64_t, const std::unique_ptr<Session>& session) {
    unsent += session->unsent_bytes();
    may_come_more |= session->may_bring_more();
    taken_bytes += session->taken_bytes();
  });
  if (taken_bytes > std::exchange(taken_bytes_, taken_bytes)) {
    farewell_until_ = std::min(now() + milliseconds(limits::farewell_ms), drain_until_);
  }
  if (now() >= farewell_until_) may_come_more = false;
  const bool is_done = engine_.idle() && unsent == 0 && !may_come_more;
  if (is_done && !std::exchange(has_answered_all_, true)) {
    // The end of the connection on which was asked could come before the answer on the other.
    farewell_until_ = std::min(now() + milliseconds(limits::farewell_ms), drain_until_);
    return for_each_peer_link(
        [](LinkSession& link) { link.may_bring_more() ? link.wait_no_longer() : link.ask_if_heard(); });
  }
  if (is_done || now() >= drain_until_) std::exchange(settings_.on_drained, {})();
}

wire::Hello Driver::hello(wire::Lane lane) const {
  wire::Hello hello;
  hello.epoch = settings_.epoch;
  hello.features = wire::kFeatureZstd | wire::kFeatureKeys | wire::kFeatureLeases | wire::kFeatureStandings;
  hello.batch_bytes = limits::batch_bytes;
  hello.message_bytes = limits::message_bytes;
  hello.host = config_.host;
  hello.sidecar = config_.sidecar;
  hello.lane = lane;
  return hello;
}

// --- events ---

template <class Event>
void Driver::tell(Event&& event) {
  engine_.on(std::forward<Event>(event), now(), actions_);
  perform();
}

template void Driver::tell(PurgeWanted&& event);  // of another file

void Driver::on_client_request(ClientSession& /*client*/, AgentRequested&& request) { tell(std::move(request)); }

void Driver::on_client_closed(ClientSession& client) {
  --clients_;
  if (client.open_calls() > 0) tell(ClientClosed{client.id()});
}

Outcome Driver::stuck_outcome(const ClientPort& port) {
  engine_.counters().add(Counter::kStuckPeersFreed);
  return engine_.rejector().reject(Code::kOutcomeUnknown, port.service, "sidecar", "sidecar_restarted",
                                   "the sidecar died while it had this request",
                                   "it may have been executed: check before you ask again");
}

contract::Terms Driver::terms_for(std::string_view service, std::string_view& method, std::span<const Slice> body) {
  const auto index = engine_.services().find(service);
  if (!index) return config_.contracts.lookup(service, method);
  const contract::MethodNaming* naming = engine_.services()[*index].naming;
  if (method.empty() && naming != nullptr) method = methods_.read(body, *naming);
  return engine_.services().terms(*index, method);
}

std::optional<std::string_view> Driver::read_key(std::span<const Slice> body, std::string_view field) {
  return methods_.read_key(body, field);
}

void Driver::on_agent_connected(AgentIndex agent) {
  if (settings_.log) settings_.log("agent_connected", config_.agents[agent].name, config_.agents[agent].endpoint.text);
  // Memory for a model is leased on its behalf.
  const bool uses_models = arbiter_ && config_.contracts.needs_model(config_.agents[agent].service);
  tell(AgentConnected{agent, uses_models ? agents_[agent]->pid() : 0});
}

void Driver::on_agent_replied(AgentReplied&& reply) { tell(std::move(reply)); }

void Driver::on_agent_lost(AgentIndex agent, std::vector<uint64_t> not_sent, std::string_view reason) {
  if (settings_.log && engine_.inbound().view(agent).connected) {
    settings_.log("agent_lost", config_.agents[agent].name, reason);
  }
  add_undelivered(agent, not_sent);
  tell(AgentLost{agent, std::move(not_sent)});
}

void Driver::on_link_up(LinkSession& link, const wire::Hello& hello) {
  engine_.counters().add(Counter::kLinksOpened);
  if (settings_.log) {
    // What a stranger calls itself is no name to count lines by.
    settings_.log("link_up", link.label(), "with " + hello.host + "/" + hello.sidecar);
  }
  if (link.lane() != nullptr) {
    link.lane()->on_up();
    const wire::Lane other = link.lane()->lane() == wire::Lane::kBulk ? wire::Lane::kInteractive : wire::Lane::kBulk;
    lane(link.lane()->peer(), other).dial_now();
    tell(PeerConnected{link.lane()->peer(), link.lane()->lane(), (hello.features & wire::kFeatureLeases) != 0});
    return;
  }
  const std::string key = hello.host + "/" + hello.sidecar + "/" + std::to_string(hello.epoch);
  peer_links_[key].lane[static_cast<size_t>(hello.lane)] = link.id();
  if (drain_until_ != kNever) link.say_draining();
  tell_standings(link);
}

void Driver::on_link_closed(LinkSession& link, std::string_view reason) {
  if (link.up()) engine_.counters().add(Counter::kLinksLost);
  const std::string peer = link.peer().host + "/" + link.peer().sidecar;
  if (settings_.log && link.up()) settings_.log("link_down", link.label(), peer + ": " + std::string(reason));
  if (link.lane() != nullptr) {
    PeerLane& lane = *link.lane();
    LostCalls lost = lane.drop_link();
    tell(PeerLost{lane.peer(), lane.lane(), std::move(lost.not_sent), std::move(lost.waiting)});
    return;
  }
  const auto at = peer_links_.find(peer + "/" + std::to_string(link.peer().epoch));
  if (at != peer_links_.end()) {
    LinkId& slot = at->second.lane[static_cast<size_t>(link.peer().lane)];
    if (slot == link.id()) slot = 0;
    if (at->second.lane[0] == 0 && at->second.lane[1] == 0) peer_links_.erase(at);
  }
  retire(link);
  tell(LinkClosed{link.id()});
}

void Driver::on_envelope(LinkSession& link, const wire::Envelope& envelope) {
  PeerLane* lane = link.lane();
  switch (envelope.kind) {
    case wire::Kind::kRequest:
      tell(PeerRequested{.link = link.id(),
                         .call_id = envelope.call_id,
                         .service = envelope.service,
                         .method = envelope.method,
                         .budget = microseconds(static_cast<int64_t>(
                             std::min<uint64_t>(envelope.budget_us, limits::budget_ms_max * 1000))),
                         .priority = envelope.priority,
                         .payload = {envelope.body, envelope.part_sizes},
                         .decompress_us = link.decompress_us(),
                         .delivery = envelope.delivery,
                         .needs_unknown = envelope.needs_unknown});
      return;
    case wire::Kind::kCancel:
      tell(PeerCancelled{link.id(), envelope.call_id});
      return;
    case wire::Kind::kReply: {
      // It may come on another lane than the request went.
      if (const auto asked_on = engine_.outbound().lane_of(envelope.call_id)) {
        this->lane(lane->peer(), *asked_on).on_reply();
      }
      // The peer had no bulk connection of ours to answer on: the next large one shall find it.
      if (envelope.body.size() > limits::bulk_body_bytes && lane->lane() == wire::Lane::kInteractive) {
        this->lane(lane->peer(), wire::Lane::kBulk).ensure_link();
      }
      Outcome outcome{.code = envelope.code, .error = nullptr, .payload = {envelope.body, envelope.part_sizes}};
      if (envelope.code != Code::kOk) {
        outcome.error = std::make_unique<Error>(envelope.error != nullptr ? *envelope.error : Error{});
        outcome.error->code = envelope.code;
      }
      if (envelope.kept != nullptr) outcome.cache = telemetry::trace_of(*envelope.kept);
      const bool stands = envelope.standings != nullptr && !envelope.standings->empty();
      tell(PeerReplied{lane->peer(), envelope.call_id, std::move(outcome), envelope.spans, &link.received(),
                       link.decompress_us(), stands ? &envelope.standings->front() : nullptr});
      return;
    }
    case wire::Kind::kStanding:
      if (envelope.standings != nullptr) tell(PeerStood{lane->peer(), *envelope.standings});
      return;
    case wire::Kind::kDraining:
      if (lane != nullptr) tell(PeerDraining{lane->peer(), lane->lane()});
      return;
    case wire::Kind::kLease:
      transport_.refresh();  // it must not seem older than it is
      tell(LeaseAsked{link.id(), envelope.call_id});
      return;
    case wire::Kind::kLeased:
      tell(PeerLeased{lane->peer(), envelope.call_id, envelope.validity->position});
      return;
    case wire::Kind::kPurge:
      if (lane != nullptr) {
        tell(PeerPurged{lane->peer(), envelope.call_id, envelope.validity->position, envelope.validity->is_relayed,
                        envelope.validity->names});
      } else {
        tell(PurgeAsked{link.id(), envelope.call_id, envelope.validity->names});
      }
      return;
    case wire::Kind::kPurged:
      if (lane == nullptr) {
        tell(PurgeHeard{link.id(), envelope.call_id});
      } else {
        tell(PurgeConfirmed{lane->peer(), envelope.call_id});
      }
      return;
    default:
      return;
  }
}

// --- turns ---

// The process was stopped, or had no processor: what others said meanwhile is still to be read, and comes before any
// judgement of their silence.
void Driver::notice_oversleep(Instant at) {
  if (armed_for_ != kNever && at - armed_for_ > milliseconds(kOverslept_ms))
    grace_until_ = at + milliseconds(kGrace_ms);
}

void Driver::on_timer() {
  const Instant at = now();
  at_turn_end_.insert(at_turn_end_.end(), in_next_turn_.begin(), in_next_turn_.end());
  in_next_turn_.clear();
  if (at >= release_at_) {
    release_at_ = kNever;
    settings_.release_memory();
  }
  engine_.on_time(at, actions_);
  perform();
  notice_oversleep(at);
  if (at < grace_until_) return;
  due_.clear();
  sessions_.expire(at, due_);
  for (const uint64_t id : due_) {
    if (auto* session = sessions_.find(id)) (*session)->on_time(at);
  }
}

void Driver::on_turn_ending() {
  for (size_t i = 0; i < at_turn_end_.size(); ++i) {
    if (auto* session = sessions_.find(at_turn_end_[i])) (*session)->on_turn_ending();
  }
  at_turn_end_.clear();
  if (!retired_.empty()) {
    retired_.clear();
    if (settings_.release_memory && release_at_ == kNever) release_at_ = now() + milliseconds(kReleaseDelay_ms);
  }
  const Instant at = now();
  notice_oversleep(at);
  const Instant sessions = std::max(sessions_.next_deadline(), grace_until_);
  Instant next = std::min({engine_.next_deadline(), sessions, release_at_});
  if (!in_next_turn_.empty()) next = at;
  if (drain_until_ != kNever) {
    judge_drain();
    next = at_turn_end_.empty() ? std::min(next, at + milliseconds(20)) : at;
  }
  armed_for_ = std::max(next, at);
  if (next != kNever) transport_.arm_timer(next);
}

}  // namespace mesh::proxy
