#include "tools/meshctl/paths.h"

#include <unistd.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <vector>

#include "sidecar/proxy/services.h"

namespace mesh::ctl {
namespace {

using Clock = std::chrono::steady_clock;
constexpr int kWait_ms = 6000;

double microseconds_since(Clock::time_point began) {
  return std::chrono::duration<double, std::micro>(Clock::now() - began).count();
}

Unexpected no_answer(const std::string& who) {
  Error error = rule_broken(Code::kDeadline, "no_answer", who + " did not answer within 6 s");
  error.hint = "see meshctl check";
  return Unexpected(std::move(error));
}

zmq::socket_t open(zmq::context_t& context, zmq::socket_type type, const std::string& endpoint) {
  zmq::socket_t socket(context, type);
  socket.set(zmq::sockopt::linger, 0);
  socket.set(zmq::sockopt::rcvtimeo, kWait_ms);
  socket.set(zmq::sockopt::sndtimeo, kWait_ms);
  socket.connect(endpoint);
  return socket;
}

std::string address_of(const Endpoint& endpoint) {
  if (endpoint.is_ipc) return "ipc://" + endpoint.address;
  const bool is_ip6 = endpoint.address.find(':') != std::string::npos;
  return "tcp://" + (is_ip6 ? "[" + endpoint.address + "]" : endpoint.address) + ":" + std::to_string(endpoint.port);
}

class MeshPath final : public ProbePath {
 public:
  MeshPath(zmq::context_t& context, const Endpoint& mesh_socket, std::string service)
      : socket_(open(context, zmq::socket_type::req, address_of(mesh_socket))),
        service_(std::move(service)),
        header_(nlohmann::json{{"service", service_}}.dump()) {}

  Result<double> round_trip(const std::string& body) override {
    const auto began = Clock::now();
    zmq::message_t header;
    zmq::message_t reply;
    const bool sent = socket_.send(zmq::buffer(header_), zmq::send_flags::sndmore) && socket_.send(zmq::buffer(body));
    if (!sent || !socket_.recv(header) || !socket_.recv(reply)) return no_answer(service_);
    const double us = microseconds_since(began);
    const auto answer = nlohmann::json::parse(header.to_string_view(), nullptr, false);
    if (answer.is_object() && answer.value("code", "") == "OK") return us;
    Error error = rule_broken(Code::kInternal, "probe_failed", std::string(reply.to_string_view()));
    error.hint = "the call's own error is above";
    return Unexpected(std::move(error));
  }

 private:
  zmq::socket_t socket_;
  std::string service_;
  std::string header_;
};

class AgentPath final : public ProbePath {
 public:
  AgentPath(zmq::context_t& context, const std::string& endpoint)
      : socket_(open(context, zmq::socket_type::req, endpoint)), endpoint_(endpoint) {}

  Result<double> round_trip(const std::string& body) override {
    const auto began = Clock::now();
    zmq::message_t reply;
    if (!socket_.send(zmq::buffer(body)) || !socket_.recv(reply)) return no_answer(endpoint_);
    return microseconds_since(began);
  }

 private:
  zmq::socket_t socket_;
  std::string endpoint_;
};

class LinkPath final : public ProbePath {
 public:
  LinkPath(zmq::context_t& context, const proxy::PeerConfig& peer)
      : socket_(open(context, zmq::socket_type::dealer, address_of(peer.endpoint))),
        name_(peer.host + "/" + peer.sidecar),
        service_(proxy::echo_service(peer.host, peer.sidecar)) {
    wire::Hello hello;
    hello.epoch = static_cast<uint64_t>(getpid());
    hello.batch_bytes = limits::batch_bytes;
    hello.message_bytes = limits::message_bytes;
    hello.host = "meshctl";
    hello.sidecar = "probe";
    send({.kind = wire::Kind::kHello, .hello = &hello});
  }

  Result<double> round_trip(const std::string& body) override {
    const auto began = Clock::now();
    const bool sent = send({.kind = wire::Kind::kRequest,
                            .call_id = ++last_id_,
                            .service = service_,
                            .budget_us = 1000 * kWait_ms,
                            .body = Slice::copy_of(body)});
    while (sent) {
      if (!receive()) break;
      wire::BatchDecoder decoder;
      if (auto begun = decoder.begin(frames_); !begun) return Unexpected(begun.error());
      while (true) {
        const auto envelope = decoder.next();
        if (!envelope) return Unexpected(envelope.error());
        if (*envelope == nullptr) break;
        const wire::Envelope& reply = **envelope;
        if (reply.kind != wire::Kind::kReply || reply.call_id != last_id_) continue;
        if (reply.code == Code::kOk) return microseconds_since(began);
        return Unexpected(reply.error != nullptr ? *reply.error : Error{});
      }
    }
    return no_answer(name_);
  }

 private:
  bool send(const wire::Envelope& envelope) {
    wire::BatchEncoder batch;
    batch.add(envelope);
    const auto frames = batch.seal(nullptr);
    for (size_t i = 0; i < frames.size(); ++i) {
      const auto flags = i + 1 < frames.size() ? zmq::send_flags::sndmore : zmq::send_flags::none;
      if (!socket_.send(zmq::const_buffer(frames[i].data(), frames[i].size()), flags)) return false;
    }
    return true;
  }
  bool receive() {
    frames_.clear();
    bool more = true;
    while (more) {
      zmq::message_t frame;
      if (!socket_.recv(frame)) return false;
      more = frame.more();
      frames_.push_back(Slice::copy_of(frame.to_string_view()));
    }
    return true;
  }

  zmq::socket_t socket_;
  std::string name_;
  std::string service_;
  uint64_t last_id_ = 0;
  std::vector<Slice> frames_;
};

}  // namespace

std::unique_ptr<ProbePath> through_mesh(zmq::context_t& context, const Endpoint& mesh_socket, std::string service) {
  return std::make_unique<MeshPath>(context, mesh_socket, std::move(service));
}

std::unique_ptr<ProbePath> straight_to_agent(zmq::context_t& context, const std::string& endpoint) {
  return std::make_unique<AgentPath>(context, endpoint);
}

std::unique_ptr<ProbePath> straight_to_sidecar(zmq::context_t& context, const proxy::PeerConfig& peer) {
  return std::make_unique<LinkPath>(context, peer);
}

}  // namespace mesh::ctl
