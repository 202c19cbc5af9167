// Peers that mean harm, as bytes.
#pragma once

#include <doctest/doctest.h>

#include <memory>
#include <optional>
#include <string>

#include "common/base/limits.h"
#include "common/wire/batch.h"
#include "tests/sim/world.h"

namespace mesh::sim {

// A connection that sends what it is told to, and reads only if it likes.
class Attacker final : public StreamObserver {
 public:
  Attacker(VirtualNetwork& network, const std::string& port) : host_(network) {
    stream_ = host_.connect(endpoint(port), *this);
  }
  void hang_up() { stream_.reset(); }
  void stop_reading() { stream_->pause_reading(); }
  void say(ByteView bytes) {
    stream_->out().put(bytes);
    stream_->flush();
  }
  // Up to READY, as a socket of that type.
  void shake_hands(zmtp::SocketType type) {
    connection_.emplace(zmtp::Settings{.own_type = type, .accepted_peers = {zmtp::SocketType::kRouter}, .identity = {}},
                        stream_->out(), host_.now());
    stream_->flush();
  }
  // As the dialing side of two sidecars does.
  void say_hello() {
    wire::Hello hello;
    hello.host = "evil";
    hello.sidecar = "main";
    put({.kind = wire::Kind::kHello, .hello = &hello});
    send_batch();
  }
  void put(const wire::Envelope& envelope) {
    if (!batch_.fits(envelope.body.size())) send_batch();
    batch_.add(envelope);
  }
  void send_batch() {
    connection_->send(batch_.seal(nullptr));
    stream_->flush();
  }
  Outbox& out() { return stream_->out(); }
  void flush() { stream_->flush(); }
  zmtp::Connection& connection() { return *connection_; }

  bool closed = false;
  uint64_t received_bytes = 0;
  std::string last_message;

  void on_connected() override { stream_->flush(); }
  void on_bytes(Slice bytes) override {
    received_bytes += bytes.size();
    if (!connection_) return;
    connection_->feed(std::move(bytes), host_.now());
    while (const zmtp::Message* message = connection_->next().value_or(nullptr)) {
      last_message = message->frames().back().text();
    }
    stream_->flush_later();
  }
  void on_closed(std::string_view) override { closed = true; }

 private:
  VirtualHost host_;
  std::unique_ptr<Stream> stream_;
  std::optional<zmtp::Connection> connection_;
  wire::BatchEncoder batch_;
};

inline uint64_t refused(Sidecar& sidecar, const std::string& port, const std::string& rule) {
  const auto& all = sidecar.driver().engine().counters().refused;
  const auto at = all.find({port, rule});
  return at == all.end() ? 0 : at->second;
}

// A good request, now: how long until its reply; the whole second if none came.
inline Duration served_in(World& world, Caller& caller) {
  const Instant asked = world.network.now();
  caller.replies.clear();
  caller.ask("good");
  while (caller.replies.empty() && world.network.now() - asked < milliseconds(1000)) {
    world.network.run_for(microseconds(100));
  }
  if (!caller.replies.empty()) CHECK(caller.replies[0] == "good");
  return world.network.now() - asked;
}

}  // namespace mesh::sim
