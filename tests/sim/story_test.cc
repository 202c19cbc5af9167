// Small stories of what a mesh does when something breaks, as text: a change of behaviour shows as a changed line.
//
// With MESH_WRITE_STORIES=1 in the environment the texts are written again; read the difference before it is kept.
#include <doctest/doctest.h>

#include <cstdlib>
#include <fstream>
#include <map>
#include <sstream>

#include "tests/sim/cast.h"

namespace mesh::sim {
namespace {

// Two hosts: callers at a, the agent "echo" at b and c; "pay" at b is durable, "look" at both idempotent.
class Story {
 public:
  explicit Story(std::string name) : name_(std::move(name)), network_(7), a_(network_, home(), 1) {
    network_.jitter = Duration{0};
    for (const char* host : {"b", "c"}) {
      sidecars_.emplace(host, std::make_unique<Sidecar>(network_, away(host), 2));
      for (const char* service : {"echo", "look", "pay"}) {
        const std::string where = std::string(host) + "." + service;
        auto agent = std::make_unique<ScriptedAgent>(network_, where);
        agent->echoes = false;
        agents_.emplace(where, std::move(agent));
      }
    }
    network_.run_for(milliseconds(500));
    began_ = network_.now();
  }
  void ask(const std::string& who, const std::string& header, const std::string& body) {
    auto& caller = callers_[who];
    if (!caller) caller = std::make_unique<Caller>(network_, "a.mesh", zmtp::SocketType::kDealer), run(1);
    tell(who, "asks " + header + " " + body);
    caller->ask_frames({"", header, body});
    run(5);
  }
  void answer(const std::string& agent, const std::string& body) {
    tell(agent, "answers " + body);
    agents_.at(agent)->answer(body);
    run(5);
  }
  void kill(const std::string& host) {
    tell(host, "is killed");
    sidecar(host).kill();
    run(5);
  }
  void start(const std::string& host) {
    tell(host, "starts");
    sidecar(host).start();
    run(300);
  }
  void drain(const std::string& host) {
    tell(host, "drains");
    sidecar(host).drain();
    run(5);
  }
  void crash(const std::string& agent) {
    tell(agent, "dies");
    agents_.at(agent)->crash();
    run(5);
  }
  // Looks what happened, each millisecond.
  void run(int ms) {
    for (int i = 0; i < ms; ++i) {
      network_.run_for(milliseconds(1));
      look();
    }
  }
  void finish() {
    for (const proxy::Counter counter :
         {proxy::Counter::kRetriesAfterNotSent, proxy::Counter::kRetriesOfIdempotent, proxy::Counter::kLateReplies}) {
      tell("a", std::string(to_string(counter)) + " " + std::to_string(a_.count(counter)));
    }
    const std::string path = std::string(MESH_STORIES) + "/" + name_ + ".txt";
    if (std::getenv("MESH_WRITE_STORIES") != nullptr) std::ofstream(path) << text_.str();
    std::ifstream file(path);
    const std::string kept{std::istreambuf_iterator<char>(file), {}};
    CHECK_MESSAGE(text_.str() == kept, name_ << " is told otherwise now:\n" << text_.str());
  }

 private:
  static proxy::SidecarConfig base(const std::string& host) {
    proxy::SidecarConfig config;
    config.host = host;
    config.sidecar = "main";
    config.admin_path = host + ".admin";
    config.contracts.declare_service("pay", {.durable = true});
    config.contracts.declare_service("look", {.idempotent = true});
    return config;
  }
  static proxy::SidecarConfig home() {
    proxy::SidecarConfig config = base("a");
    config.mesh_socket = endpoint("a.mesh");
    const auto peer = [&](const std::string& host, std::vector<std::string> services) {
      config.peers.push_back(
          {.host = host, .sidecar = "main", .endpoint = endpoint(host + ".link"), .services = std::move(services)});
    };
    peer("b", {"echo", "look", "pay"});
    peer("c", {"look"});
    return config;
  }
  static proxy::SidecarConfig away(const std::string& host) {
    proxy::SidecarConfig config = base(host);
    config.listen = endpoint(host + ".link");
    for (const char* service : {"echo", "look", "pay"}) {
      config.agents.push_back({.name = service, .service = service, .endpoint = endpoint(host + "." + service)});
    }
    return config;
  }
  Sidecar& sidecar(const std::string& host) { return host == "a" ? a_ : *sidecars_.at(host); }

  void tell(const std::string& who, const std::string& what) {
    std::string ms = std::to_string(to_us(network_.now() - began_) / 1000);
    ms.insert(0, 5 - std::min<size_t>(ms.size(), 5), ' ');
    text_ << ms << " ms  " << who << std::string(std::max<size_t>(8, who.size() + 1) - who.size(), ' ') << what << "\n";
  }
  void look() {
    for (const auto& [where, agent] : agents_) {
      for (size_t& seen = seen_[where]; seen < agent->asked.size(); ++seen) tell(where, "gets " + agent->asked[seen]);
    }
    for (const auto& [who, caller] : callers_) {
      for (size_t& seen = seen_[who]; seen < caller->replies.size(); ++seen)
        tell(who, "hears " + brief(caller->replies[seen]));
    }
  }
  // Of an error its code and where it was decided.
  static std::string brief(const std::string& reply) {
    const auto field = [&](const std::string& name) {
      const size_t at = reply.find("\"" + name + "\":\"");
      if (at == std::string::npos) return std::string();
      const size_t begin = at + name.size() + 4;
      return reply.substr(begin, reply.find('"', begin) - begin);
    };
    if (!reply.starts_with(R"({"status":"error")")) return reply;
    return field("code") + " from " + field("hop") + " at " + field("stage") + ", " + field("rule");
  }

  std::string name_;
  VirtualNetwork network_;
  Sidecar a_;
  std::map<std::string, std::unique_ptr<Sidecar>> sidecars_;
  std::map<std::string, std::unique_ptr<ScriptedAgent>> agents_;
  std::map<std::string, std::unique_ptr<Caller>> callers_;
  std::map<std::string, size_t> seen_;
  std::ostringstream text_;
  Instant began_{};
};

constexpr char kEcho[] = R"({"service":"echo","budget_ms":2000})";
constexpr char kLook[] = R"({"service":"look","budget_ms":2000})";
constexpr char kPay[] = R"({"service":"pay","idempotency_key":"order 7","budget_ms":2000})";

TEST_CASE("story: a sidecar is killed with one call at its agent and one in the queue") {
  Story story("sidecar_killed");
  story.ask("alice", kEcho, "at the agent");
  story.ask("bob", kEcho, "in the queue");
  story.kill("b");
  story.ask("alice", kEcho, "while it is gone");
  story.run(900);
  story.start("b");
  story.run(1500);
  story.ask("alice", kEcho, "after it is back");
  story.answer("b.echo", "an answer");
  story.finish();
}

TEST_CASE("story: an agent dies with an idempotent call, which another one takes") {
  Story story("idempotent_retry");
  story.ask("alice", kLook, "where is it");
  story.crash("b.look");
  story.run(100);
  story.answer("c.look", "over there");
  story.finish();
}

TEST_CASE("story: a durable call is asked for again while it is under way, after it, and after a kill of its sidecar") {
  Story story("durable_key");
  story.ask("alice", kPay, "5 coins");
  story.run(20);
  story.ask("bob", kPay, "5 coins");
  story.answer("b.pay", "paid");
  story.run(20);
  story.ask("alice", kPay, "5 coins");
  story.run(20);
  story.ask("alice", kPay, "6 coins");
  story.kill("b");
  story.start("b");
  story.run(1500);
  story.ask("bob", kPay, "5 coins");
  story.run(20);
  story.finish();
}

TEST_CASE("story: a sidecar with a durable call under way is killed, and nobody executes it again") {
  Story story("durable_unknown");
  story.ask("alice", kPay, "5 coins");
  story.run(20);
  story.kill("b");
  story.start("b");
  story.run(1500);
  story.ask("alice", kPay, "5 coins");
  story.finish();
}

TEST_CASE("story: a sidecar drains with a call under way") {
  Story story("drain");
  story.ask("alice", kLook, "before");
  story.drain("b");
  story.ask("bob", kLook, "meanwhile");
  story.ask("alice", kEcho, "nobody else serves this");
  story.answer("b.look", "one");
  story.answer("c.look", "two");
  story.finish();
}

}  // namespace
}  // namespace mesh::sim
