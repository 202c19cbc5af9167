// A libzmq DEALER that speaks to a sidecar's link port as another sidecar does.
#pragma once

#include <optional>
#include <string>
#include <vector>
#include <zmq.hpp>

#include "common/base/endpoint.h"
#include "common/base/result.h"
#include "common/wire/batch.h"

namespace mesh::ctl {

// As libzmq wants it.
std::string zmq_address(const Endpoint& endpoint);
// A socket that neither lingers nor waits longer than `wait_ms`, connected. `context` must outlive it.
zmq::socket_t open_socket(zmq::context_t& context, zmq::socket_type type, const std::string& address, int wait_ms);
// false if none came in time, or a signal came first.
bool receive_frame(zmq::socket_t& socket, zmq::message_t& frame);

class LinkSocket {
 public:
  // Connects and says hello. `context` must outlive this.
  LinkSocket(zmq::context_t& context, const Endpoint& endpoint, int wait_ms);

  // false if it could not be sent in time.
  bool send(const wire::Envelope& envelope);
  // The next envelope; null if none came in time. Its body and strings are valid until the next call.
  Result<const wire::Envelope*> receive();
  // The hello that a sidecar answers with: who it is and what it speaks. NOT_SENT if there is none in time.
  Result<wire::Hello> await_hello();

 private:
  bool receive_batch();

  zmq::socket_t socket_;
  wire::BatchDecoder decoder_;
  std::vector<Slice> frames_;
  bool in_batch_ = false;
};

}  // namespace mesh::ctl
