#include "tests/sim/virtual_arbiter.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "lease.pb.h"

namespace mesh::sim {
namespace {

namespace pb = mesh::lease::v1;
using arbiter::ConnectionId;
using arbiter::ProcessId;

constexpr Duration kWay = microseconds(30);
constexpr Duration kRedial = milliseconds(100);
constexpr Duration kSampled = milliseconds(1000);

arbiter::ArbiterConfig config_of(gpu::Units card) {
  arbiter::ArbiterConfig config;
  config.sees_processes = true;
  config.gpus.push_back({{0, 1}, {card, 0, gpu::bounds::emergency_units}, {}});
  return config;
}

}  // namespace

struct VirtualArbiter::Running {
  using ProcessOf = std::function<ProcessId(uint32_t pid, ProcessId asker)>;
  Running(gpu::Units card, std::function<arbiter::LeaseId()> new_id, ProcessOf process_of)
      : engine(config_of(card)), terms{engine, book, {"GPU-sim"}, false, std::move(new_id), std::move(process_of)} {
    terms.plan = [this](const gpu::Request& request, Instant now, arbiter::LeaseId waiting) {
      return engine.plan(request, now, waiting);
    };
  }
  arbiter::Engine engine;
  arbiter::ChunkBook book;
  arbiter::SessionTerms terms;
  std::map<ConnectionId, arbiter::Session> sessions;
};

VirtualArbiter::VirtualArbiter(VirtualNetwork& network, int site, gpu::Units card)
    : network_(network), site_(site), card_(card) {
  network_.watch_processes(alive_, [this](const VirtualHost& host) {
    if (host.site() == site_) note_end(host.pid());
  });
  start();
}

VirtualArbiter::~VirtualArbiter() { *alive_ = false; }

void VirtualArbiter::start() {
  ++life_;
  const auto new_id = [this] { return arbiter::LeaseId{network_.prng().next(), 1 | network_.prng().next()}; };
  running_ = std::make_unique<Running>(card_, new_id, [this](uint32_t pid, ProcessId) {
    const VirtualHost* process = network_.process(pid);
    return ProcessId{process != nullptr && process->site() == site_ ? pid : 0};
  });
  arbiter::Actions out;
  const std::vector<arbiter::JournalEntry> journal = journal_;
  running_->engine.begin(journal, network_.now(), out);
  carry_out(out);
  sample();
}

void VirtualArbiter::kill() {
  running_.reset();
  ++life_;
  for (Channel* channel : channels_) channel->hang_up();
}

void VirtualArbiter::forget() {
  journal_.clear();
  uses_.clear();
}

std::unique_ptr<VirtualArbiter::Channel> VirtualArbiter::connect(VirtualHost& host) {
  auto channel = std::make_unique<Channel>(*this, host);
  channels_.push_back(channel.get());
  return channel;
}

// Its process has ended: the socket says so at once, what it held of the card is free only after that.
void VirtualArbiter::close(Channel& channel) {
  std::erase(channels_, &channel);
  const ConnectionId connection = channel.connection_;
  if (connection == 0) return;
  network_.at(network_.now() + kWay, [this, connection, alive = std::weak_ptr<bool>(alive_)] {
    if (alive.expired() || !running_ || running_->sessions.erase(connection) == 0) return;
    tell(arbiter::ConnectionClosed{connection});
  });
}

// Nobody tells an agent that its model is not needed any more: it finds out by itself, sooner or later.
void VirtualArbiter::end_use(const std::string& lease) {
  const auto use = uses_.find(lease);
  if (use == uses_.end()) return;
  use->second.is_over = true;
  const bool is_late = network_.prng().below(4) == 0;
  const auto span_ms = static_cast<int64_t>(is_late ? network_.prng().below(5000) : network_.prng().below(50));
  network_.at(network_.now() + milliseconds(span_ms), [this, lease, alive = std::weak_ptr<bool>(alive_)] {
    if (!alive.expired()) uses_.erase(lease);
  });
}

void VirtualArbiter::note_end(ProcessId process) {
  const Duration span = milliseconds(5 + static_cast<int64_t>(network_.prng().below(60)));
  network_.at(network_.now() + span, [this, process, alive = std::weak_ptr<bool>(alive_)] {
    if (alive.expired()) return;
    std::erase_if(uses_, [process](const auto& use) { return use.second.used_by == process; });
    std::vector<std::string> left;  // by who leased it for another, which has it still
    for (const auto& [lease, use] : uses_) {
      if (use.process == process) left.push_back(lease);
    }
    for (const std::string& lease : left) end_use(lease);
    ended_.insert(process);
    if (running_) tell(arbiter::ProcessEnded{process});
  });
}

VirtualArbiter::Channel* VirtualArbiter::channel_of(ConnectionId connection) {
  const auto is_it = [connection](const Channel* channel) { return channel->connection_ == connection; };
  const auto found = std::find_if(channels_.begin(), channels_.end(), is_it);
  return found == channels_.end() ? nullptr : *found;
}

void VirtualArbiter::take_packet(ConnectionId connection, const std::string& bytes) {
  if (!running_) return;
  const auto found = running_->sessions.find(connection);
  if (found == running_->sessions.end()) return;
  arbiter::Session& session = found->second;
  arbiter::Frames frames;
  const arbiter::Order order = session.on_packet({as_bytes(bytes), false, false}, network_.now(), frames);
  std::visit(
      [this](const auto& event) {
        if constexpr (!std::is_same_v<std::decay_t<decltype(event)>, std::monostate>) tell(event);
      },
      order);
  session.settle(frames);
  Channel* channel = channel_of(connection);
  for (arbiter::Frame& frame : frames) {
    if (channel != nullptr) channel->receive(std::move(frame.bytes));
  }
  arm();
}

template <class Event>
void VirtualArbiter::tell(const Event& event) {
  arbiter::Actions out;
  running_->engine.on(event, network_.now(), out);
  carry_out(out);
  arm();
}

void VirtualArbiter::carry_out(const arbiter::Actions& actions) {
  std::vector<ProcessId> gone;
  for (const arbiter::Action& action : actions) {
    if (const auto* append = std::get_if<arbiter::AppendJournal>(&action)) journal_.push_back(append->entry);
  }
  for (const arbiter::Action& action : actions) {
    std::visit(
        [&](const auto& each) {
          using Each = std::decay_t<decltype(each)>;
          if constexpr (requires { each.connection; }) {
            const auto session = running_->sessions.find(each.connection);
            if (session == running_->sessions.end()) return;
            arbiter::Frames frames;
            session->second.on(each, frames);
            Channel* channel = channel_of(each.connection);
            for (arbiter::Frame& frame : frames) {
              if (channel != nullptr) channel->receive(std::move(frame.bytes));
            }
            if constexpr (std::is_same_v<Each, arbiter::SendGrant>) ++grants_;
          } else if constexpr (std::is_same_v<Each, arbiter::WatchProcess>) {
            if (ended_.contains(each.process)) gone.push_back(each.process);
          } else if constexpr (std::is_same_v<Each, arbiter::SampleGpu>) {
            sample_later(milliseconds(10));
          }
        },
        action);
  }
  for (const ProcessId process : gone) tell(arbiter::ProcessEnded{process});
}

void VirtualArbiter::arm() {
  if (!running_) return;
  const Instant next = running_->engine.next_deadline();
  if (next == kNever) return;
  network_.at(std::max(next, network_.now()), [this, life = life_, alive = std::weak_ptr<bool>(alive_)] {
    if (alive.expired() || life != life_ || running_->engine.next_deadline() > network_.now()) return;
    arbiter::Actions out;
    running_->engine.on_time(network_.now(), out);
    carry_out(out);
    arm();
  });
}

gpu::Units VirtualArbiter::in_use() const {
  gpu::Units units = 0;
  for (const auto& [lease, use] : uses_) units += use.units;
  return units;
}

arbiter::GpuSampled VirtualArbiter::reading() const {
  arbiter::GpuSampled sampled{.gpu = 0, .used = in_use()};
  std::map<ProcessId, gpu::Units> by_process;
  for (const auto& [pid, host] : network_.processes()) {
    if (host->site() == site_) by_process[pid] = 0;
  }
  for (const auto& [lease, use] : uses_) by_process[use.used_by] += use.units;
  for (const auto& [process, units] : by_process) sampled.processes.push_back({process, units});
  return sampled;
}

void VirtualArbiter::sample() {
  tell(reading());
  sample_later(kSampled);
}

void VirtualArbiter::sample_later(Duration span) {
  network_.at(network_.now() + span, [this, life = life_, span, alive = std::weak_ptr<bool>(alive_)] {
    if (alive.expired() || life != life_) return;
    span == kSampled ? sample() : tell(reading());
  });
}

std::string VirtualArbiter::audit() const {
  if (in_use() > card_) return "the agents of site " + std::to_string(site_) + " have more of the card than there is";
  if (running_ && !running_->engine.holds()) return "the arbiter's books do not agree";
  return "";
}

std::string VirtualArbiter::unrest() const {
  if (!running_) return "the arbiter does not run";
  std::string text;
  for (const auto& [lease, use] : uses_) text += "process " + std::to_string(use.used_by) + " uses memory; ";
  for (const auto& [id, entry] : running_->engine.entries()) {
    text += "process " + std::to_string(entry.lease.process) + " has a lease of " + std::to_string(entry.lease.units) +
            " units, " + std::string(gpu::to_string(entry.lease.state)) + ", and " + std::to_string(entry.unseen) +
            " unseen; ";
  }
  return text;
}

// --- the side of a process ---

VirtualArbiter::Channel::Channel(VirtualArbiter& arbiter, VirtualHost& host) : arbiter_(arbiter), host_(host) {}

VirtualArbiter::Channel::~Channel() {
  *alive_ = false;
  arbiter_.close(*this);
}

void VirtualArbiter::Channel::open(PacketChannelObserver& observer) {
  observer_ = &observer;
  try_open();
}

void VirtualArbiter::Channel::try_open() {
  VirtualNetwork& network = arbiter_.network_;
  network.at(network.now() + kWay, [this, alive = std::weak_ptr<bool>(alive_)] {
    if (alive.expired() || connection_ != 0) return;
    if (!arbiter_.running_ || host_.is_paused()) {
      arbiter_.network_.at(arbiter_.network_.now() + kRedial, [this, alive] {
        if (!alive.expired()) try_open();
      });
      return;
    }
    connection_ = ++arbiter_.last_connection_;
    arbiter_.running_->sessions.try_emplace(connection_, arbiter_.running_->terms, connection_, process_);
    inbox_.emplace_back([this] { observer_->on_channel_open(); });
    pump();
  });
}

bool VirtualArbiter::Channel::send(std::string_view bytes) {
  if (connection_ == 0) return false;
  pb::Request request;
  request.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()));
  if (request.has_ask()) {
    const ProcessId used_by = request.ask().pid() != 0 ? request.ask().pid() : process_;
    asked_[request.number()] = {request.ask().model(), used_by};
  }
  if (request.has_claim()) claimed_[request.number()] = request.claim().lease().id();
  if (request.has_release()) {
    arbiter_.end_use(request.release().id());
    released_.insert(request.release().id());
  }
  VirtualNetwork& network = arbiter_.network_;
  network.at(network.now() + kWay, [&arbiter = arbiter_, connection = connection_, packet = std::string(bytes),
                                    alive = std::weak_ptr<bool>(arbiter_.alive_)] {
    if (!alive.expired()) arbiter.take_packet(connection, packet);
  });
  return true;
}

void VirtualArbiter::Channel::receive(std::string bytes) {
  VirtualNetwork& network = arbiter_.network_;
  network.at(network.now() + kWay,
             [this, connection = connection_, bytes = std::move(bytes), alive = std::weak_ptr<bool>(alive_)] {
               if (alive.expired() || connection != connection_) return;
               inbox_.emplace_back([this, bytes] {
                 note_reply(bytes);
                 observer_->on_channel_packet(as_bytes(bytes));
               });
               pump();
             });
}

// What it is told while it is stopped it hears when it goes on, in that order.
void VirtualArbiter::Channel::pump() {
  if (is_pumping_) return;
  is_pumping_ = true;
  while (!inbox_.empty() && !host_.is_paused()) {
    const std::function<void()> next = std::move(inbox_.front());
    inbox_.pop_front();
    host_.turn(next);
  }
  is_pumping_ = false;
  if (inbox_.empty()) return;
  arbiter_.network_.at(arbiter_.network_.now() + milliseconds(20), [this, alive = std::weak_ptr<bool>(alive_)] {
    if (!alive.expired()) pump();
  });
}

void VirtualArbiter::Channel::hang_up() {
  if (std::exchange(connection_, 0) == 0) return;
  inbox_.emplace_back([this] {
    asked_.clear();
    claimed_.clear();
    observer_->on_channel_closed();
    try_open();
  });
  VirtualNetwork& network = arbiter_.network_;
  network.at(network.now() + kWay, [this, alive = std::weak_ptr<bool>(alive_)] {
    if (!alive.expired()) pump();
  });
}

// What it is told from now on it may use.
void VirtualArbiter::Channel::note_reply(const std::string& bytes) {
  pb::Reply reply;
  reply.ParseFromString(bytes);
  const auto claim = claimed_.find(reply.number());
  if (claim != claimed_.end()) {
    const auto use = arbiter_.uses_.find(claim->second);
    if (!reply.has_granted() && use != arbiter_.uses_.end()) {
      taken_.insert(use->second.model);
      arbiter_.end_use(claim->second);
    }
    claimed_.erase(claim);
    return;
  }
  const auto ask = asked_.find(reply.number());
  if (ask == asked_.end() || reply.has_queued()) return;
  // What it gave up before it heard of it, it does not use, and who is gone uses nothing.
  const bool is_used = reply.has_granted() && !released_.contains(reply.granted().lease().id());
  if (is_used && arbiter_.network_.process(static_cast<uint32_t>(ask->second.used_by)) != nullptr) {
    // What it has still of the same model it goes on with.
    std::erase_if(arbiter_.uses_, [&](const auto& each) {
      const Use& use = each.second;
      return use.is_over && use.used_by == ask->second.used_by && use.model == ask->second.model;
    });
    arbiter_.uses_[reply.granted().lease().id()] = {process_, ask->second.used_by,
                                                    gpu::units_of(reply.granted().bytes()), ask->second.model};
    taken_.erase(ask->second.model);
  }
  asked_.erase(ask);
}

bool VirtualArbiter::Channel::has(const std::string& model, uint32_t user) const {
  if (taken_.contains(model)) return true;
  return std::any_of(arbiter_.uses_.begin(), arbiter_.uses_.end(), [&](const auto& each) {
    const Use& use = each.second;
    const bool is_for_it = use.used_by == user || use.used_by == process_;
    return use.process == process_ && is_for_it && use.model == model && !use.is_over;
  });
}

}  // namespace mesh::sim
