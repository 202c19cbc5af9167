// The two ways on which a probe makes its round trips.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <zmq.hpp>

#include "common/base/result.h"
#include "sidecar/proxy/config.h"

namespace mesh::ctl {

// One at a time; an error is final, and so is a signal, which counts as no answer.
class ProbePath {
 public:
  virtual ~ProbePath() = default;
  // Sends `body` and waits for the answer; microseconds in between.
  virtual Result<double> round_trip(const std::string& body) = 0;
};

// Through a sidecar's mesh socket to a service, as an agent does. `context` must outlive a path; INVALID with the rule
// "probe" where libzmq cannot read the address.
Result<std::unique_ptr<ProbePath>> through_mesh(zmq::context_t& context, const Endpoint& mesh_socket,
                                                std::string service);
// A libzmq REQ socket straight to an agent's own socket.
Result<std::unique_ptr<ProbePath>> straight_to_agent(zmq::context_t& context, const std::string& endpoint);
// A libzmq DEALER straight to another sidecar's link port, speaking as a sidecar does, to its echo service.
Result<std::unique_ptr<ProbePath>> straight_to_sidecar(zmq::context_t& context, const proxy::PeerConfig& peer);

}  // namespace mesh::ctl
