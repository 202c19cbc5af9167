// Who is connected: taking in, making room, letting go.

#include <algorithm>
#include <utility>

#include "sidecar/proxy/driver.h"
#include "sidecar/proxy/driver_door.h"

namespace mesh::proxy {
ClientPort* Driver::add_port(std::string label, std::string service, contract::Declaration terms, size_t index) {
  auto port = std::make_unique<ClientPort>();
  port->index = static_cast<uint32_t>(index);
  port->label = std::move(label);
  port->service = std::move(service);
  port->terms = std::move(terms);
  port->caller = config_.host + "/" + config_.sidecar + "/" + port->label;
  port->keep_bytes = port->service.empty()
                         ? limits::message_bytes
                         : port->terms.max_bytes.value_or(config_.contracts.largest_bytes(port->service));
  ports_.push_back(std::move(port));
  return ports_.back().get();
}

Result<void> Driver::open_door(Kind kind, const Endpoint& endpoint, uint32_t mode, ClientPort* port) {
  auto door = std::make_unique<Door>(*this, kind, port);
  auto listener = transport_.listen(endpoint, mode, *door);
  if (!listener) return Unexpected(listener.error());
  door->listener = std::move(*listener);
  doors_.push_back(std::move(door));
  return {};
}

Session& Driver::admit(std::unique_ptr<Session> session) {
  Session& admitted = *session;
  admitted.set_id(sessions_.open(std::move(session), kNever));
  return admitted;
}

void Driver::set_deadline(Session& session, Instant deadline) {
  if (sessions_.find(session.id()) != nullptr) sessions_.set_deadline(session.id(), deadline);
}

void Driver::retire(Session& session) {
  if (sessions_.find(session.id()) != nullptr) retired_.push_back(sessions_.close(session.id()));
}

void Driver::call_at_turn_end(Session& session) { at_turn_end_.push_back(session.id()); }

void Driver::report(std::string_view port, const Error& error) {
  engine_.counters().add(error.rule == "handshake_timeout" ? Counter::kHandshakeTimeouts : Counter::kProtocolErrors);
  engine_.counters().refuse(port, error.rule);
  if (settings_.log) settings_.log("refused", port, error.rule + ": " + error.text);
}

bool Driver::ask_room(Session& session, size_t bytes) {
  std::vector<uint64_t> admitted;
  const bool has_room = room_.ask(session.id(), bytes, admitted);
  admit_to_room(admitted);
  return has_room;
}

void Driver::give_room_back(Session& session) {
  std::vector<uint64_t> admitted;
  room_.give_back(session.id(), admitted);
  admit_to_room(admitted);
}

void Driver::admit_to_room(std::span<const uint64_t> sessions) {
  for (const uint64_t id : sessions) {
    if (auto* next = sessions_.find(id)) (*next)->on_room();
  }
}

// Most bytes first, but only of those who took nothing for a while: a large reply under way to a peer that reads it is
// no reason.
void Driver::judge_idle_bytes() {
  constexpr Duration kMotionless = milliseconds(500);
  size_t total = 0;
  size_t most = 0;
  Session* worst = nullptr;
  sessions_.for_each([&](uint64_t, const std::unique_ptr<Session>& session) {
    Duration motionless{0};
    const size_t bytes = session->idle_bytes(now(), motionless);
    total += bytes;
    if (motionless >= kMotionless && bytes > most) most = bytes, worst = session.get();
  });
  if (total > limits::idle_bytes && worst != nullptr) {
    worst->refuse(rule_broken(Code::kOverloaded, "idle_bytes", "the peer leaves too many bytes lying about"));
  }
}

// Like drops of a full barrel the oldest go: whoever means it is done within a round trip.
void Driver::make_room(Newcomers& newcomers, size_t count, size_t count_max) {
  const auto is_done = [this, &newcomers] {
    auto* session = sessions_.find(newcomers.front());
    return session == nullptr || !(*session)->is_newcomer();
  };
  while (!newcomers.empty() && is_done()) newcomers.pop_front();
  if (count < count_max || newcomers.empty()) return;
  auto* oldest = sessions_.find(newcomers.front());
  newcomers.pop_front();
  (*oldest)->refuse(rule_broken(Code::kOverloaded, "newcomer_evicted", "many came at once and it was the slowest"));
}

// Whose place a newcomer may take; false if everybody has business here.
bool Driver::dismiss_guest(Door& door) {
  for (const Session::Worth least : {Session::Worth::kNothing, Session::Worth::kLittle}) {
    for (size_t looks = door.guests.size(); looks > 0; --looks) {
      const uint64_t id = door.guests.front();
      door.guests.pop_front();
      auto* guest = sessions_.find(id);
      if (guest == nullptr) continue;
      if ((*guest)->worth(now()) <= least) {
        (*guest)->refuse(rule_broken(Code::kOverloaded, "guest_dismissed", "the port is full and it asks for nothing"));
        return true;
      }
      door.guests.push_back(id);
    }
  }
  return false;
}

StreamObserver* Driver::accept(Door& door, std::unique_ptr<Stream> stream) {
  Counters& counters = engine_.counters();
  const size_t guests_max = door.port != nullptr ? config_.limits.connections_per_port_max : limits::links_max;
  if (door.guests.size() >= guests_max) {
    std::erase_if(door.guests, [this](uint64_t id) { return sessions_.find(id) == nullptr; });
  }
  // There is always a place for the administrator.
  const bool full =
      door.kind != Kind::kAdmin && (door.guests.size() >= guests_max || sessions_.size() >= settings_.connections_max);
  if (full && !dismiss_guest(door)) {
    counters.add(Counter::kClientRefusals);
    counters.refuse(door.label(), "connections_max");
    return nullptr;
  }
  if (door.kind == Kind::kAdmin) {
    make_room(admins_, admins_.size(), limits::admin_connections_max);
  } else {
    make_room(strangers_, handshakes_, limits::handshakes_max);
  }
  switch (door.kind) {
    case Kind::kClients: {
      ++handshakes_;
      counters.add(Counter::kClientConnects);
      ++clients_;
      const bool may_be_stuck = now() < stuck_until_ || door.port->crossed > 0;
      Session& client =
          admit(std::make_unique<ClientSession>(*this, *this, *door.port, std::move(stream), may_be_stuck));
      set_deadline(client, now() + milliseconds(limits::handshake_ms));
      strangers_.push_back(client.id());
      door.guests.push_back(client.id());
      return &client;
    }
    case Kind::kPeers: {
      ++handshakes_;
      LinkSettings settings{.label = "link", .own = hello(wire::Lane::kInteractive)};
      // Who knows a process's epoch can pass for its second lane: it is only told to those whom this one dials.
      settings.own.epoch = 0;
      auto made = std::make_unique<LinkSession>(*this, *this, counters, std::move(settings));
      LinkSession& link = *made;
      admit(std::move(made));
      strangers_.push_back(link.id());
      door.guests.push_back(link.id());
      link.adopt(std::move(stream));
      return &link;
    }
    case Kind::kAdmin: {
      Session& admin = admit(std::make_unique<AdminSession>(
          *this, std::move(stream), [this](std::string_view line, AdminSession& who) { return answer(line, who); }));
      set_deadline(admin, now() + milliseconds(limits::handshake_ms));
      admins_.push_back(admin.id());
      return &admin;
    }
  }
  return nullptr;
}

}  // namespace mesh::proxy
