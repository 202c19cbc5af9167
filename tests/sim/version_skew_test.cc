// A sidecar of this version and the recording of one of the version before, in either place.
#include <doctest/doctest.h>

#include <fstream>
#include <sstream>

#include "common/wire/batch.h"
#include "tests/sim/cast.h"

namespace mesh::sim {
namespace {

struct Turn {
  std::vector<std::string> parts;
  std::string code = "OK";
  std::string said[2];  // by the caller's sidecar, by the callee's
};

std::string unhex(const std::string& text) {
  std::string bytes;
  for (size_t i = 0; i + 1 < text.size(); i += 2) bytes += static_cast<char>(std::stoi(text.substr(i, 2), nullptr, 16));
  return bytes;
}

std::vector<Turn> recording() {
  std::ifstream file(std::string(MESH_LINKS) + "/version_1_before_keys.txt");
  std::vector<Turn> turns;
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string kind;
    std::string word;
    words >> kind;
    if (kind == "turn") {
      turns.emplace_back();
      continue;
    }
    Turn& turn = turns.at(turns.size() - 1);
    while (words >> word) {
      if (kind == "asks") turn.parts.push_back(unhex(word));
      if (kind == "gets") turn.code = word;
      if (kind == "caller" || kind == "callee") turn.said[kind == "callee" ? 1 : 0] += unhex(word);
    }
  }
  REQUIRE(turns.size() == 5);
  return turns;
}

// Says what the recording says, and reads what it hears as the wire's rules have it.
class Recorded final : public StreamObserver, public AcceptObserver {
 public:
  Recorded(VirtualNetwork& network, zmtp::SocketType type) : host_(network), type_(type) {}
  void dial(const std::string& where) {
    stream_ = host_.connect(endpoint(where), *this);
    begin();
  }
  void listen(const std::string& where) { listener_ = std::move(*host_.listen(endpoint(where), 0, *this)); }
  StreamObserver* on_accepted(std::unique_ptr<Stream> stream) override {
    stream_ = std::move(stream);
    begin();
    return this;
  }
  bool is_connected() const { return stream_ != nullptr; }
  void say(const std::string& bytes) {
    host_.turn([&] {
      stream_->out().put(Slice::copy_of(bytes));
      stream_->flush();
    });
  }
  void on_bytes(Slice bytes) override {
    connection_->feed(std::move(bytes), host_.now());
    for (auto message = connection_->next(); message && *message != nullptr; message = connection_->next()) {
      REQUIRE(decoder_.begin((*message)->frames()));
      for (auto envelope = decoder_.next(); envelope && *envelope != nullptr; envelope = decoder_.next()) {
        const wire::Envelope& e = **envelope;
        const std::string error = e.error != nullptr ? e.error->rule : "";
        heard.push_back({e.kind, e.call_id, e.code, std::string(e.body.text()), e.part_sizes, error});
      }
    }
  }
  void on_closed(std::string_view reason) override { closed = std::string(reason), stream_.reset(); }

  struct Heard {
    wire::Kind kind;
    uint64_t call_id;
    Code code;
    std::string body;
    std::vector<uint32_t> part_sizes;
    std::string rule;
  };
  std::vector<Heard> heard;
  std::optional<std::string> closed;

 private:
  // Its own words come from the recording: what the connection would say is thrown away.
  void begin() {
    const auto peer = type_ == zmtp::SocketType::kDealer ? zmtp::SocketType::kRouter : zmtp::SocketType::kDealer;
    connection_.emplace(zmtp::Settings{.own_type = type_, .accepted_peers = {peer}, .identity = {}}, unsaid_,
                        host_.now());
  }

  VirtualHost host_;
  zmtp::SocketType type_;
  Outbox unsaid_;
  std::unique_ptr<Listener> listener_;
  std::unique_ptr<Stream> stream_;
  std::optional<zmtp::Connection> connection_;
  wire::BatchDecoder decoder_;
};

proxy::SidecarConfig callee_config() {
  proxy::SidecarConfig config;
  config.host = "b";
  config.sidecar = "main";
  config.admin_path = "b.admin";
  config.listen = endpoint("b.link");
  config.agents.push_back({.name = "echo", .service = "echo", .endpoint = endpoint("b.echo")});
  return config;
}

proxy::SidecarConfig caller_config() {
  proxy::SidecarConfig config;
  config.host = "a";
  config.sidecar = "main";
  config.admin_path = "a.admin";
  config.mesh_socket = endpoint("a.mesh");
  config.ports.push_back({.name = "echo", .listen = endpoint("a.port"), .service = "echo", .terms = {}});
  config.peers.push_back({.host = "b",
                          .sidecar = "main",
                          .endpoint = endpoint("b.link"),
                          .services = {"echo"},
                          .compression = wire::CompressionMode::kAlways});
  return config;
}

std::string joined(const std::vector<std::string>& parts) {
  std::string all;
  for (const std::string& part : parts) all += part;
  return all;
}

TEST_CASE("the requests of a sidecar of the version before are served, compressed and in parts") {
  VirtualNetwork network(1);
  auto agent = std::make_unique<ScriptedAgent>(network, "b.echo");
  Sidecar callee(network, callee_config(), 0);
  network.run_for(milliseconds(100));
  Recorded caller(network, zmtp::SocketType::kDealer);
  caller.dial("b.link");
  network.run_for(milliseconds(10));
  for (const Turn& turn : recording()) {
    const bool is_lost = turn.code != "OK";
    if (is_lost) agent->crash(), network.run_for(milliseconds(10));
    const size_t before = caller.heard.size();
    caller.say(turn.said[0]);
    network.run_for(milliseconds(is_lost ? 2000 : 50));
    CHECK_FALSE(caller.closed);
    REQUIRE(caller.heard.size() > before);
    const auto& reply = caller.heard.back();
    CHECK(reply.kind == wire::Kind::kReply);
    CHECK((reply.code == Code::kOk) == !is_lost);
    CHECK(reply.rule.empty() == !is_lost);
    if (!is_lost) CHECK(reply.body == joined(turn.parts));
  }
}

TEST_CASE("a sidecar of the version before serves, and its errors are understood") {
  VirtualNetwork network(2);
  Recorded callee(network, zmtp::SocketType::kRouter);
  callee.listen("b.link");
  Sidecar sidecar(network, caller_config(), 0);
  network.run_for(milliseconds(50));
  Caller caller(network, "a.port", zmtp::SocketType::kReq);
  network.run_for(milliseconds(50));
  bool has_greeted = false;
  for (const Turn& turn : recording()) {
    const size_t before = caller.replies.size();
    caller.ask(joined(turn.parts));
    // The link is opened by the first request, which waits for the answer to its greeting.
    for (int i = 0; i < 100 && !callee.is_connected(); ++i) network.run_for(milliseconds(1));
    network.run_for(milliseconds(20));
    if (std::exchange(has_greeted, true)) REQUIRE(callee.heard.back().kind == wire::Kind::kRequest);
    callee.say(turn.said[1]);
    network.run_for(milliseconds(50));
    REQUIRE(caller.replies.size() == before + 1);
    if (turn.code == "OK") {
      CHECK(caller.replies.back() == turn.parts.back());
    } else {
      CHECK(caller.replies.back().find("\"code\":\"" + turn.code + "\"") != std::string::npos);
    }
  }
  CHECK_FALSE(callee.closed);
}

TEST_CASE("a call with a key is not sent to a sidecar of the version before, which would execute it twice") {
  VirtualNetwork network(3);
  Recorded callee(network, zmtp::SocketType::kRouter);
  callee.listen("b.link");
  Sidecar sidecar(network, caller_config(), 0);
  network.run_for(milliseconds(50));
  Caller plain(network, "a.port", zmtp::SocketType::kReq);
  plain.ask("ping");
  network.run_for(milliseconds(50));
  callee.say(recording().at(0).said[1]);
  network.run_for(milliseconds(50));
  REQUIRE(plain.replies.size() == 1);
  const size_t before = callee.heard.size();
  Caller keyed(network, "a.mesh", zmtp::SocketType::kDealer);
  keyed.ask_frames({"", R"({"service":"echo","idempotency_key":"k"})", "body"});
  network.run_for(milliseconds(50));
  REQUIRE(keyed.replies.size() == 1);
  CHECK(keyed.replies[0].find("peer_too_old") != std::string::npos);
  CHECK(callee.heard.size() == before);
}

TEST_CASE("a request that needs a feature of a later version is told so, and the link lives on") {
  VirtualNetwork network(4);
  ScriptedAgent agent(network, "b.echo");
  Sidecar callee(network, callee_config(), 0);
  network.run_for(milliseconds(100));
  Recorded caller(network, zmtp::SocketType::kDealer);
  caller.dial("b.link");
  network.run_for(milliseconds(10));
  const std::vector<Turn> turns = recording();
  caller.say(turns[0].said[0]);
  network.run_for(milliseconds(50));
  // A batch of one request with the last bit of `critical`, in a field that stands behind the others.
  const std::string envelope =
      std::string("\x08\x02\x10\x07\x1a\x04", 6) + "echo" + std::string("\x28\x80\xe8\x07\x70\x80\x80\x80\x80\x08", 10);
  const std::string batch = std::string("\x4d\x01\0\0\0\x01\0\0", 8) + static_cast<char>(envelope.size()) + envelope;
  caller.say(std::string(1, '\0') + static_cast<char>(batch.size()) + batch);
  network.run_for(milliseconds(50));
  CHECK_FALSE(caller.closed);
  const auto& reply = caller.heard.back();
  CHECK(reply.call_id == 7);
  CHECK(reply.code == Code::kInvalid);
  CHECK(reply.rule == "unknown_critical");
  caller.say(turns[1].said[0]);
  network.run_for(milliseconds(50));
  CHECK(caller.heard.back().code == Code::kOk);
  CHECK(agent.asked.size() == 2);
}

}  // namespace
}  // namespace mesh::sim
