// A listening socket of the sidecar and what to do with who comes in. Private to the driver.
#pragma once

#include <memory>
#include <string_view>

#include "sidecar/proxy/driver.h"

namespace mesh::proxy {

struct Driver::Door final : AcceptObserver {
  Door(Driver& owner, Kind what, ClientPort* client_port) : driver(owner), kind(what), port(client_port) {}
  StreamObserver* on_accepted(std::unique_ptr<Stream> stream) override {
    return driver.accept(*this, std::move(stream));
  }

  std::string_view label() const {
    if (port != nullptr) return port->label;
    return kind == Kind::kAdmin ? "admin" : "link";
  }

  Driver& driver;
  Kind kind;
  ClientPort* port;
  std::unique_ptr<Listener> listener;
  // Who came in here and was not looked at since, then who was; some entries are gone already.
  std::deque<uint64_t> guests;
};

}  // namespace mesh::proxy
