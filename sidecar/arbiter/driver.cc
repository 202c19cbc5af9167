#include "sidecar/arbiter/driver.h"

#include <algorithm>
#include <utility>

#include "common/base/check.h"
#include "sidecar/arbiter/report.h"

namespace mesh::arbiter {

Driver::Driver(io::Loop& loop, DriverParts parts)
    : loop_(loop),
      parts_(std::move(parts)),
      engine_(parts_.config),
      memory_(loop, std::move(parts_.devices), std::move(parts_.keeper), parts_.log,
              [this] { carry_out_now(std::exchange(deferred_, {})); }),
      terms_{.engine = engine_,
             .chunks = memory_.book(),
             .gpus = parts_.uuids,
             .new_id = parts_.new_id,
             .process_of = [this](uint32_t pid, ProcessId asker) { return process_of(pid, asker); }},
      sensors_(
          loop, std::move(parts_.sensors), [this] { on_measuring(); },
          [this](const SensorReading& reading) { on_reading(reading); }) {
  terms_.backs_leases = memory_.can_export();
  terms_.plan = [this](const gpu::Request& request, Instant now, LeaseId waiting) {
    return engine_.plan(request, now, waiting);
  };
}

Driver::~Driver() = default;

void Driver::on_accepted(io::OwnedFd socket) {
  ++counters_.connections;
  auto peer = io::identify_peer(socket.get());
  if (!peer || clients_.size() >= kConnectionsMax || connections_of(peer->name) >= kConnectionsPerProcessMax) {
    ++counters_.connections_refused;
    return parts_.log("connection_refused", "agents", peer ? "it has too many" : "it is not known who it is");
  }
  const ConnectionId id = next_connection_++;
  auto client = std::make_unique<Client>(*this, id, terms_, peer->name);
  client->socket = std::make_unique<io::PacketSocket>(loop_, std::move(socket), packet_bytes_max);
  greetings_.emplace_back(loop_.now() + milliseconds(kGreetingMs), id);
  watch(peer->name, peer->uid, std::move(peer->pidfd));
  client->socket->begin(*client);
  clients_.emplace(id, std::move(client));
}

size_t Driver::connections_of(ProcessId process) const {
  return static_cast<size_t>(std::count_if(clients_.begin(), clients_.end(), [process](const auto& each) {
    return each.second->session.process() == process;
  }));
}

// Of the asker's user, or of anybody's if that is root.
ProcessId Driver::process_of(uint32_t pid, ProcessId asker) {
  const auto asking = processes_.find(asker);
  if (asking == processes_.end() || pid > static_cast<uint32_t>(INT32_MAX)) return 0;
  const uint32_t user = asking->second.user;
  auto found = io::find_process(static_cast<pid_t>(pid), asker);
  if (!found || (user != 0 && found->uid != user)) return 0;
  watch(found->name, found->uid, std::move(found->pidfd));
  return found->name;
}

void Driver::watch(ProcessId process, uint32_t user, io::OwnedFd pidfd) {
  Process& watched = processes_[process];
  watched.user = user;
  if (watched.watch != nullptr) return;
  if (!pidfd) return ended_.push_back(process);
  watched.watch =
      std::make_unique<io::ProcessWatch>(loop_, std::move(pidfd), [this, process] { ended_.push_back(process); });
}

void Driver::on_packet(Client& client, const Packet& packet) {
  if (client.is_retired) return;
  ++counters_.packets;
  Frames frames;
  const Order order = client.session.on_packet(packet, loop_.now(), frames);
  send(client, frames);
  if (!std::holds_alternative<std::monostate>(order)) {
    follow(order, client);
    memory_.finish_at_hand();
    frames.clear();
    client.session.settle(frames);
    send(client, frames);
  }
  if (!client.session.is_to_be_closed() || client.is_retired) return;
  ++counters_.hung_up_on;
  parts_.log("hung_up", "agents", "it broke too many rules: " + client.session.client());
  retire(client);
}

// What comes back with an order is known here by number, in the engine by count.
void Driver::follow(const Order& order, Client& client) {
  ChunkBook& book = memory_.book();
  const std::vector<ChunkNumber> named = client.session.named();
  if (const auto* presented = std::get_if<LeasePresented>(&order)) {
    present(*presented, named);
  } else if (const auto* written = std::get_if<SegmentWritten>(&order)) {
    seal(*written);
  } else {
    if (!named.empty()) book.offer(client.session.lease(), named);
    std::visit(
        [this](const auto& event) {
          if constexpr (!std::is_same_v<std::decay_t<decltype(event)>, std::monostate>) tell(event);
        },
        order);
  }
  book.withdraw_offer();
}

// Whatever it does not show of a backed lease nobody has.
void Driver::present(const LeasePresented& presented, const std::vector<ChunkNumber>& kept) {
  const LeaseId id = presented.name.id;
  const auto before = engine_.entries().find(id);
  const bool was_orphaned =
      before != engine_.entries().end() && before->second.lease.state == gpu::LeaseState::kOrphaned;
  ++counters_.claims;
  std::vector<ChunkNumber> gone = memory_.book().of(id);
  std::erase_if(gone, [&](ChunkNumber each) { return std::find(kept.begin(), kept.end(), each) != kept.end(); });
  memory_.book().offer(id, gone);
  tell(presented);
  const auto after = engine_.entries().find(id);
  const bool is_taken_up =
      was_orphaned && after != engine_.entries().end() && after->second.lease.connection == presented.name.connection;
  if (is_taken_up && after->second.lease.request.kind == gpu::LeaseKind::kBacked) memory_.keep_only(id, kept);
}

// Nobody may write to its chunks any more when its readers are told.
void Driver::seal(const SegmentWritten& written) {
  const auto is_written = [&] {
    const auto writer = engine_.entries().find(written.name.id);
    return writer != engine_.entries().end() && writer->second.lease.is_committed;
  };
  const bool was_written = is_written();
  Actions out;
  engine_.on(written, loop_.now(), out);
  if (!was_written && is_written()) memory_.seal(engine_.entries().at(written.name.id).segment);
  carry_out(out);
}

void Driver::send(Client& client, const Frames& frames) {
  std::vector<int> descriptors;
  for (const Frame& frame : frames) {
    if (client.is_retired) return;
    descriptors.clear();
    for (const ChunkNumber number : frame.chunks) descriptors.push_back(memory_.descriptor(number));
    if (client.socket->send(frame.bytes, descriptors)) continue;
    ++counters_.hung_up_on;
    parts_.log("hung_up", "agents", "it does not read: " + client.session.client());
    retire(client);
  }
}

// What it held is told at the end of this turn: the engine may be in the middle of something.
void Driver::retire(Client& client) {
  if (std::exchange(client.is_retired, true)) return;
  retired_.push_back(client.id);
}

void Driver::end_processes() {
  memory_.finish_at_hand();
  while (!retired_.empty() || !ended_.empty()) {
    const std::vector<ProcessId> ended = std::exchange(ended_, {});
    // What it had sent and nobody has read is of nobody any more.
    for (const auto& [id, client] : clients_) {
      if (std::find(ended.begin(), ended.end(), client->session.process()) != ended.end()) retire(*client);
    }
    for (const ConnectionId id : std::exchange(retired_, {})) {
      clients_.erase(id);
      tell(ConnectionClosed{id});
    }
    for (const ProcessId process : ended) {
      ++counters_.ended_processes;
      tell(ProcessEnded{process});
      processes_.erase(process);
    }
    memory_.finish_at_hand();
  }
}

void Driver::on_timer() {}

void Driver::on_turn_ending() {
  const Instant now = loop_.now();
  while (!greetings_.empty() && greetings_.front().first <= now) {
    const auto found = clients_.find(greetings_.front().second);
    greetings_.pop_front();
    if (found == clients_.end() || found->second->session.has_greeted()) continue;
    ++counters_.hung_up_on;
    retire(*found->second);
  }
  end_processes();
  if (engine_.next_deadline() <= now) {
    Actions out;
    engine_.on_time(now, out);
    carry_out(out);
    end_processes();
  }
  sensors_.on_time();
  admin_->on_time(now);
  Instant next = std::min({engine_.next_deadline(), sensors_.next_deadline(), admin_->next_deadline()});
  if (!greetings_.empty()) next = std::min(next, greetings_.front().first);
  if (next != kNever) loop_.arm_timer(next);
}

std::string Driver::answer(std::string_view question) {
  if (auto answered = obey(question)) return std::move(*answered);
  return report(question, view());
}

ReportView Driver::view() const {
  ReportView view{.terms = terms_, .decisions = decisions_, .counters = counters_};
  for (const auto& [id, client] : clients_) view.clients[client->session.process()] = client->session.client();
  view.chunks_made = memory_.made();
  view.chunks_not_made = memory_.not_made();
  view.now = loop_.now();
  return view;
}

}  // namespace mesh::arbiter
