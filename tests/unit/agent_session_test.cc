// The connection to an agent: what was given to it and never left is said so, and never leaves later.
#include "sidecar/proxy/agent_session.h"

#include <doctest/doctest.h>

#include "common/zmtp/greeting.h"
#include "tests/unit/quiet_host.h"

namespace mesh::proxy {
namespace {

// A kernel that takes as many bytes as it is told to.
class TightStream final : public Stream {
 public:
  Outbox& out() override { return out_; }
  void flush() override {
    if (is_abandoned) return;
    while (takes_bytes > 0 && !out_.empty()) {
      const size_t count = std::min(takes_bytes, out_.chunks().front().size());
      taken += out_.chunks().front().text().substr(0, count);
      out_.drop_front(count);
      takes_bytes -= count;
    }
  }
  void flush_later() override { flush(); }
  size_t unsent_bytes() const override { return out_.bytes(); }
  uint64_t handed_bytes() const override { return taken.size(); }
  uint64_t accepted_bytes() const override { return taken.size(); }
  void abandon() override { is_abandoned = true; }
  void pause_reading() override {}
  void resume_reading() override {}
  bool is_reading() const override { return true; }
  bool has_unread() const override { return false; }
  std::optional<PeerCredentials> credentials() const override { return std::nullopt; }

  std::string taken;
  size_t takes_bytes = SIZE_MAX;
  bool is_abandoned = false;

 private:
  Outbox out_;
};

class Scene final : public QuietHost, public AgentObserver {
 public:
  Scene() { session.start(), begin(); }

  void say(const Outbox& bytes) {
    for (const Slice& chunk : bytes.chunks()) session.on_bytes(chunk);
  }
  void deliver(uint64_t call_id, size_t bytes) {
    session.deliver({.agent = 0, .call_id = call_id, .payload = {Slice::copy_of(std::string(bytes, 'b')), {}}});
  }

  std::vector<uint64_t> lost;
  int losses = 0;
  AgentConfig config;
  Prng prng{1};
  TightStream* stream = nullptr;  // the newest
  AgentSession session{*this, *this, config, 0, prng};

  std::unique_ptr<Stream> connect(const Endpoint&, StreamObserver&) override {
    auto made = std::make_unique<TightStream>();
    stream = made.get();
    return made;
  }
  void on_agent_connected(AgentIndex) override {}
  void on_agent_congested(AgentIndex) override {}
  void on_agent_drained(AgentIndex) override {}
  void on_agent_replied(AgentReplied&&) override {}
  void on_agent_lost(AgentIndex, std::vector<uint64_t> not_sent, std::string_view) override {
    lost = std::move(not_sent);
    ++losses;
  }

 private:
  void begin() {
    Outbox greeting;
    const auto bytes = zmtp::encode_greeting({.mechanism = "NULL"});
    greeting.put(ByteView(bytes));
    zmtp::put_ready(greeting, {.socket_type = zmtp::SocketType::kRep, .identity = ""});
    say(greeting);
    stream->flush();
  }
};

// Flags that nobody may set.
Outbox nonsense() {
  Outbox bytes;
  bytes.put(as_bytes(std::string(9, '\xFF')));
  return bytes;
}

TEST_CASE("a call of which a byte is still here is given back when the agent breaks a rule, and not sent after all") {
  Scene scene;
  scene.stream->takes_bytes = 20'000;
  scene.deliver(1, 10'000);
  scene.deliver(2, 10'000);  // its last bytes find no room
  scene.deliver(3, 10'000);
  TightStream& stream = *scene.stream;
  const size_t before = stream.taken.size();
  scene.say(nonsense());
  CHECK(scene.losses == 1);
  CHECK(scene.lost == std::vector<uint64_t>{2, 3});
  stream.takes_bytes = SIZE_MAX;
  stream.flush();
  CHECK(stream.is_abandoned);
  CHECK(stream.taken.size() == before);
}

TEST_CASE("a call whose last byte the kernel has may have arrived") {
  Scene scene;
  scene.deliver(1, 10'000);
  scene.session.on_closed("ECONNRESET");
  CHECK(scene.losses == 1);
  CHECK(scene.lost.empty());
}

TEST_CASE("what is delivered after the connection ended in the same turn is given back at once") {
  Scene scene;
  scene.say(nonsense());
  scene.deliver(7, 10);
  CHECK(scene.losses == 2);
  CHECK(scene.lost == std::vector<uint64_t>{7});
}

TEST_CASE("an agent that says nonsense in two pieces is lost once") {
  Scene scene;
  scene.say(nonsense());
  scene.say(nonsense());
  scene.session.on_closed("closed by the other end");
  CHECK(scene.losses == 1);
}

}  // namespace
}  // namespace mesh::proxy
