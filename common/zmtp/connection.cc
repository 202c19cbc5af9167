#include "common/zmtp/connection.h"

#include <algorithm>

#include "common/zmtp/greeting.h"

namespace mesh::zmtp {
namespace {

std::string names_of(const std::vector<SocketType>& types) {
  std::string names;
  for (const SocketType type : types) {
    if (!names.empty()) names += " or ";
    names += to_string(type);
  }
  return names;
}

}  // namespace

Connection::Connection(Settings settings, Outbox& out, Instant now)
    : settings_(std::move(settings)),
      out_(&out),
      handshake_deadline_(now + milliseconds(limits::handshake_ms)),
      heard_at_(now),
      mechanism_(NullMechanism({settings_.own_type, settings_.identity}, settings_.answers_ready)) {
  MESH_CHECK(settings_.frames_max <= message_.slots.size());
  const auto greeting = encode_greeting({.mechanism = std::string(NullMechanism::kName)});
  out_->put(ByteView(greeting));
}

const ReadyProperties& Connection::peer() const {
  return std::visit([](const auto& mechanism) -> const ReadyProperties& { return mechanism.peer(); }, mechanism_);
}

void Connection::feed(Slice bytes, Instant now) {
  heard_at_ = now;
  if (state_ == State::kGreeting) {
    MESH_CHECK(early_.empty());
    early_ = std::move(bytes);
  } else {
    decoder_.feed(std::move(bytes));
  }
}

void Connection::commit(size_t count, Instant now) {
  heard_at_ = now;
  decoder_.commit(count);
}

// Every error but the peer's own ERROR is told to the peer before the connection closes.
Unexpected Connection::refuse(Error error) {
  if (state_ != State::kFailed && state_ != State::kGreeting && error.code != Code::kDenied)
    put_error(*out_, error.text);
  state_ = State::kFailed;
  return Unexpected(std::move(error));
}

Result<void> Connection::receive_greeting() {
  const size_t take = std::min(greeting_.size() - greeting_have_, early_.size());
  std::copy_n(early_.data(), take, greeting_.data() + greeting_have_);
  greeting_have_ += take;
  early_.drop_front(take);
  if (greeting_have_ < greeting_.size()) {
    early_ = Slice();
    return judge_greeting_prefix(ByteView(greeting_.data(), greeting_have_));
  }
  auto greeting = decode_greeting(greeting_);
  if (!greeting) return Unexpected(greeting.error());
  if (greeting->mechanism != NullMechanism::kName) {
    return fail(Code::kUnauthenticated, "mechanism", "the peer wants another security mechanism than NULL");
  }
  peer_greeting_.minor = greeting->major > 3 ? 1 : greeting->minor;
  std::visit([this](auto& mechanism) { mechanism.begin(*out_); }, mechanism_);
  state_ = State::kHandshake;
  if (!early_.empty()) decoder_.feed(std::move(early_));
  early_ = Slice();
  return {};
}

Result<void> Connection::receive_handshake(const Command& command) {
  auto received = std::visit([&](auto& mechanism) { return mechanism.receive(command, *out_); }, mechanism_);
  if (!received) return received;
  if (!std::visit([](auto& mechanism) { return mechanism.done(); }, mechanism_)) return {};
  const auto& accepted = settings_.accepted_peers;
  if (std::find(accepted.begin(), accepted.end(), peer().socket_type) == accepted.end()) {
    return fail(
        Code::kInvalid, "socket_type",
        "this port talks to " + names_of(accepted) + " sockets, not to " + std::string(to_string(peer().socket_type)));
  }
  state_ = State::kReady;
  return {};
}

Result<void> Connection::receive_command(ByteView body) {
  auto command = decode_command(body);
  if (!command) return Unexpected(command.error());
  if (state_ == State::kHandshake) return receive_handshake(*command);
  if (!commands_.take(heard_at_)) {
    return fail(Code::kOverloaded, "command_flood", "the peer sends more commands than any heartbeat needs");
  }
  if (command->name == "PING") {
    auto ping = decode_ping(command->data);
    if (!ping) return Unexpected(ping.error());
    ttl_ = milliseconds(100) * ping->ttl_deciseconds;
    put_pong(*out_, ping->context);
    return {};
  }
  if (command->name == "PONG") {
    if (command->data.size() > limits::ping_context_bytes) {
      return fail(Code::kInvalid, "pong", "a PONG's context is too long");
    }
    ++pongs_received_;
    last_pong_context_ = std::string(as_text(command->data));
    return {};
  }
  if (command->name == "ERROR") {
    auto reason = decode_error(command->data);
    if (!reason) return Unexpected(reason.error());
    return fail(Code::kDenied, "peer_error", "the peer ended the connection: " + *reason);
  }
  return fail(Code::kInvalid, "command", "a command came that has no place after the handshake");
}

Result<const Message*> Connection::next() {
  if (state_ == State::kFailed) return fail(Code::kInvalid, "failed", "the connection has failed before");
  if (message_done_) {
    for (size_t i = 0; i < message_.count; ++i) message_.slots[i] = Slice();
    message_.count = 0;
    message_.bytes = 0;
    message_.dropped_bytes = 0;
    message_.dropped_frames = 0;
    message_done_ = false;
  }
  if (state_ == State::kGreeting) {
    if (auto received = receive_greeting(); !received) return refuse(received.error());
    if (state_ == State::kGreeting) return nullptr;
  }
  while (true) {
    const bool handshake = state_ == State::kHandshake;
    const size_t seen = message_.bytes + message_.dropped_bytes;
    auto frame = decoder_.next(
        {.keep_bytes = settings_.message_bytes - message_.bytes,
         .data_bytes = handshake ? 0 : settings_.read_over_bytes - std::min(seen, settings_.read_over_bytes),
         .command_bytes = limits::handshake_command_bytes});
    if (!frame) return refuse(frame.error());
    if (!frame->has_value()) {
      // The rest may be long in coming: do not hold the loop's read block for it.
      for (size_t i = 0; i < message_.count; ++i) message_.slots[i] = message_.slots[i].compact();
      return nullptr;
    }
    Frame& got = **frame;
    if (got.command()) {
      if (auto received = receive_command(got.body.view()); !received) return refuse(received.error());
      continue;
    }
    if (handshake) {
      return refuse(rule_broken(Code::kInvalid, "message_before_ready", "a message came before READY"));
    }
    if (message_.count == settings_.frames_max && message_.dropped_frames < settings_.surplus_frames_max) {
      ++message_.dropped_frames;
      message_.dropped_bytes += got.body.size() + got.dropped_bytes;
      if (got.more()) continue;
      message_done_ = true;
      return &message_;
    }
    if (message_.count == settings_.frames_max) {
      return refuse(rule_broken(Code::kTooLarge, "message_frames",
                                "a message has more than " + std::to_string(settings_.frames_max) + " frames"));
    }
    message_.bytes += got.body.size();
    message_.dropped_bytes += got.dropped_bytes;
    message_.slots[message_.count++] = std::move(got.body);
    if (!got.more()) {
      message_done_ = true;
      return &message_;
    }
  }
}

void Connection::send(std::span<const Slice> frames) {
  MESH_CHECK(ready());
  put_message(*out_, frames);
}

bool Connection::ping(uint16_t ttl_deciseconds, ByteView context) {
  if (!ready() || peer_greeting_.minor < 1) return false;
  put_ping(*out_, ttl_deciseconds, context);
  return true;
}

Instant Connection::next_deadline() const {
  if (state_ == State::kReady) return ttl_ == Duration{0} ? kNever : heard_at_ + ttl_;
  return state_ == State::kFailed ? kNever : handshake_deadline_;
}

Result<void> Connection::judge(Instant now) const {
  if (now < next_deadline()) return {};
  if (ready()) return fail(Code::kDeadline, "peer_ttl", "the peer was silent for longer than it said it would be");
  return fail(Code::kDeadline, "handshake_timeout", "the handshake was not done in time");
}

}  // namespace mesh::zmtp
