// A recorded conversation of two libzmq sockets; record_traces.py makes them and says how they are written.
#pragma once

#include <string>
#include <vector>

#include "common/zmtp/command.h"

namespace mesh::interop {

struct Turn {
  bool by_client = false;
  std::vector<std::string> frames;  // of the message; none in a handshake or a command
  std::string wire;                 // the same as libzmq sent it
};

struct Trace {
  std::string name;
  zmtp::SocketType client{};
  zmtp::SocketType server{};
  std::vector<Turn> turns;  // the first two are the handshakes

  zmtp::SocketType type_of(bool client_side) const { return client_side ? client : server; }
  // Everything one side said.
  std::string stream(bool of_client) const {
    std::string all;
    for (const Turn& turn : turns) all += turn.by_client == of_client ? turn.wire : "";
    return all;
  }
};

// All traces in the source tree. Throws if one is broken.
std::vector<Trace> read_traces();

}  // namespace mesh::interop
