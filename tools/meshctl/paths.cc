#include "tools/meshctl/paths.h"

#include <chrono>

#include "sidecar/proxy/services.h"
#include "tools/meshctl/fields.h"
#include "tools/meshctl/link_socket.h"

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

class MeshPath final : public ProbePath {
 public:
  MeshPath(zmq::context_t& context, const Endpoint& mesh_socket, std::string service)
      : socket_(open_socket(context, zmq::socket_type::req, zmq_address(mesh_socket), kWait_ms)),
        service_(std::move(service)),
        header_(nlohmann::json{{"service", service_}}.dump()) {}

  Result<double> round_trip(const std::string& body) override {
    const auto began = Clock::now();
    zmq::message_t header;
    zmq::message_t reply;
    const bool sent = socket_.send(zmq::buffer(header_), zmq::send_flags::sndmore) && socket_.send(zmq::buffer(body));
    if (!sent || !receive_frame(socket_, header)) return no_answer(service_);
    while (header.more() && receive_frame(socket_, reply) && reply.more()) {
    }
    const double us = microseconds_since(began);
    const Json answer = Json::parse(header.to_string_view(), nullptr, false);
    if (text_at(answer, "code") == "OK") return us;
    const Json& where = at(answer, "mesh");
    const std::string code = text_at(answer, "code");
    Error error = rule_broken(code_from_name(code).value_or(Code::kInternal), "probe_failed",
                              code + ": " + text_at(answer, "error"));
    error.hint = text_at(where, "hint");
    if (const std::string call = text_at(where, "call"); !call.empty()) {
      error.hint += (error.hint.empty() ? "" : "; ") + ("meshctl explain " + call);
    }
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
      : socket_(open_socket(context, zmq::socket_type::req, endpoint, kWait_ms)), endpoint_(endpoint) {}

  Result<double> round_trip(const std::string& body) override {
    const auto began = Clock::now();
    zmq::message_t reply;
    if (!socket_.send(zmq::buffer(body)) || !receive_frame(socket_, reply)) return no_answer(endpoint_);
    while (reply.more() && receive_frame(socket_, reply)) {
    }
    return microseconds_since(began);
  }

 private:
  zmq::socket_t socket_;
  std::string endpoint_;
};

class LinkPath final : public ProbePath {
 public:
  LinkPath(zmq::context_t& context, const proxy::PeerConfig& peer)
      : socket_(context, peer.endpoint, kWait_ms),
        name_(peer.host + "/" + peer.sidecar),
        service_(proxy::echo_service(peer.host, peer.sidecar)) {}

  Result<double> round_trip(const std::string& body) override {
    const auto began = Clock::now();
    const bool sent = socket_.send({.kind = wire::Kind::kRequest,
                                    .call_id = ++last_id_,
                                    .service = service_,
                                    .budget_us = 1000 * kWait_ms,
                                    .body = Slice::copy_of(body)});
    while (sent) {
      const auto got = socket_.receive();
      if (!got) return Unexpected(got.error());
      if (*got == nullptr) break;
      const wire::Envelope& reply = **got;
      if (reply.kind != wire::Kind::kReply || reply.call_id != last_id_) continue;
      if (reply.code == Code::kOk) return microseconds_since(began);
      return Unexpected(reply.error != nullptr ? *reply.error : Error{});
    }
    return no_answer(name_);
  }

 private:
  LinkSocket socket_;
  std::string name_;
  std::string service_;
  uint64_t last_id_ = 0;
};

// The address may be the operator's: what libzmq cannot read is told, not thrown.
template <class Path, class... Arguments>
Result<std::unique_ptr<ProbePath>> make(const std::string& address, Arguments&&... arguments) {
  try {
    return std::make_unique<Path>(std::forward<Arguments>(arguments)...);
  } catch (const zmq::error_t& error) {
    Error told = rule_broken(Code::kInvalid, "probe", "libzmq cannot connect to " + address + ": " + error.what());
    told.hint = "an endpoint looks like tcp://127.0.0.1:5701 or ipc:///run/agent.sock";
    return Unexpected(std::move(told));
  }
}

}  // namespace

Result<std::unique_ptr<ProbePath>> through_mesh(zmq::context_t& context, const Endpoint& mesh_socket,
                                                std::string service) {
  return make<MeshPath>(mesh_socket.text, context, mesh_socket, std::move(service));
}

Result<std::unique_ptr<ProbePath>> straight_to_agent(zmq::context_t& context, const std::string& endpoint) {
  return make<AgentPath>(endpoint, context, endpoint);
}

Result<std::unique_ptr<ProbePath>> straight_to_sidecar(zmq::context_t& context, const proxy::PeerConfig& peer) {
  return make<LinkPath>(peer.endpoint.text, context, peer);
}

}  // namespace mesh::ctl
