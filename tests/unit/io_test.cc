// The loop against the real kernel, on loopback and AF_UNIX.

#include <doctest/doctest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/base/limits.h"
#include "sidecar/io/log_file.h"
#include "sidecar/io/loop.h"

namespace mesh::io {
namespace {

struct Directory {
  std::string path = "/tmp/mesh-io-test-XXXXXX";
  Directory() { REQUIRE(mkdtemp(path.data()) != nullptr); }
  ~Directory() { std::system(("rm -r " + path).c_str()); }
  Endpoint socket(const std::string& name) const {
    return {.is_ipc = true, .address = path + "/" + name, .port = 0, .text = "ipc://" + path + "/" + name};
  }
};

struct Peer final : StreamObserver {
  std::unique_ptr<Stream> stream;
  std::string received;
  std::string closed;
  bool connected = false;
  int drained = 0;
  std::vector<uint8_t> target;
  size_t target_used = 0;
  std::function<void()> then = [] {};

  void on_connected() override {
    connected = true;
    then();
  }
  std::span<uint8_t> read_target() override { return std::span(target).subspan(target_used); }
  void on_target_filled(size_t count) override {
    target_used += count;
    then();
  }
  void on_bytes(Slice bytes) override {
    received += bytes.text();
    then();
  }
  void on_drained() override {
    ++drained;
    then();
  }
  void on_closed(std::string_view reason) override {
    closed = std::string(reason);
    then();
  }
};

struct Door final : AcceptObserver {
  Peer peer;
  bool refuse = false;
  StreamObserver* on_accepted(std::unique_ptr<Stream> stream) override {
    if (refuse) return nullptr;
    peer.stream = std::move(stream);
    return &peer;
  }
};

struct Clockwork final : TurnObserver {
  std::function<void()> timer = [] {};
  void on_timer() override { timer(); }
  void on_turn_ending() override {}
};

// A loop that stops by itself: a test that waits for what never comes fails instead of hanging.
struct Bench {
  Directory directory;
  Loop loop;
  Clockwork clockwork;
  Door door;
  Peer client;
  std::unique_ptr<Listener> listener;

  explicit Bench(bool listening = true) {
    loop.set_turn_observer(&clockwork);
    if (listening) listener = std::move(*loop.listen(directory.socket("s"), 0660, door));
  }
  void run(const std::function<bool()>& done) {
    const Instant end = Instant(Duration(static_cast<int64_t>(0))) + (loop.now() - Instant()) + std::chrono::seconds(5);
    const auto judge = [&, end] {
      if (done() || loop.now() >= end) loop.stop();
    };
    client.then = door.peer.then = judge;
    clockwork.timer = [&, judge, end] {
      judge();
      loop.arm_timer(end);
    };
    loop.arm_timer(loop.now() + milliseconds(1));
    loop.run();
    REQUIRE(done());
  }
  void connect() {
    client.stream = loop.connect(directory.socket("s"), client);
    run([&] { return client.connected && door.peer.stream != nullptr; });
  }
};

TEST_CASE("many chunks arrive in order although the reader is slow, and the writer hears when all is out") {
  Bench bench;
  bench.connect();
  bench.door.peer.stream->pause_reading();
  std::string expected;
  for (int i = 0; i < 3000; ++i) {
    const std::string piece = std::to_string(i) + std::string(i % 7 == 0 ? 9000 : 40, static_cast<char>('a' + i % 26));
    expected += piece;
    bench.client.stream->out().put(Slice::copy_of(piece));
  }
  bench.client.stream->flush();
  CHECK(bench.client.stream->unsent_bytes() > 0);
  CHECK(bench.client.stream->handed_bytes() < expected.size());
  bench.door.peer.stream->resume_reading();
  bench.run([&] { return bench.door.peer.received.size() == expected.size() && bench.client.drained > 0; });
  CHECK(bench.door.peer.received == expected);
  CHECK(bench.client.stream->unsent_bytes() == 0);
  CHECK(bench.client.stream->handed_bytes() == expected.size());
}

TEST_CASE("a small write leaves at once, and nobody is told that it drained") {
  Bench bench;
  bench.connect();
  bench.client.stream->out().put(as_bytes("now"));
  bench.client.stream->flush();
  CHECK(bench.client.stream->unsent_bytes() == 0);
  bench.run([&] { return bench.door.peer.received == "now"; });
  CHECK(bench.client.drained == 0);
}

TEST_CASE("bytes go straight to where the reader wants them") {
  Bench bench;
  bench.connect();
  bench.door.peer.target.resize(50'000);
  bench.client.stream->out().put(Slice::copy_of(std::string(50'000, 'd') + "rest"));
  bench.client.stream->flush();
  bench.run([&] { return bench.door.peer.received == "rest"; });
  CHECK(bench.door.peer.target_used == 50'000);
  CHECK(bench.door.peer.target[49'999] == 'd');
}

TEST_CASE("a refused connection is told later, never within connect") {
  Bench bench(false);
  bench.client.stream = bench.loop.connect(bench.directory.socket("nobody"), bench.client);
  CHECK(bench.client.closed.empty());
  bench.run([&] { return !bench.client.closed.empty(); });
  CHECK(bench.client.closed == "ENOENT");
}

TEST_CASE("the end of one side is told to the other once, and a stream may be destroyed in its own call") {
  Bench bench;
  bench.connect();
  bench.door.peer.stream.reset();
  bool destroyed = false;
  bench.clockwork.timer = [] {};
  bench.client.then = [&] {
    bench.client.stream.reset();
    destroyed = true;
    bench.loop.stop();
  };
  bench.loop.run();
  CHECK(destroyed);
  CHECK(bench.client.closed == "closed by the other end");
}

TEST_CASE("a crowd at the door is taken in over several turns, and nobody of it is forgotten") {
  struct Crowd final : AcceptObserver, TurnObserver, StreamObserver {
    std::vector<std::unique_ptr<Stream>> in;
    size_t before = 0;
    size_t most_in_a_turn = 0;
    std::function<void()> then;
    StreamObserver* on_accepted(std::unique_ptr<Stream> stream) override {
      in.push_back(std::move(stream));
      return this;
    }
    void on_bytes(Slice) override {}
    void on_closed(std::string_view) override {}
    void on_timer() override { then(); }
    void on_turn_ending() override {
      most_in_a_turn = std::max(most_in_a_turn, in.size() - before);
      before = in.size();
      if (in.size() == 300) then();
    }
  };
  const Directory directory;
  Loop loop;
  Crowd crowd;
  loop.set_turn_observer(&crowd);
  crowd.then = [&] { loop.stop(); };
  const auto listener = std::move(*loop.listen(directory.socket("s"), 0660, crowd));
  std::vector<int> clients;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, directory.socket("s").address.c_str(), sizeof(address.sun_path) - 1);
  for (int i = 0; i < 300; ++i) {
    clients.push_back(socket(AF_UNIX, SOCK_STREAM, 0));
    REQUIRE(connect(clients.back(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0);
  }
  loop.arm_timer(loop.now() + std::chrono::seconds(5));
  loop.run();
  CHECK(crowd.in.size() == 300);
  CHECK(crowd.most_in_a_turn <= limits::accepts_per_turn + 1);
  for (const int client : clients) close(client);
  crowd.in.clear();
  loop.set_turn_observer(nullptr);
}

TEST_CASE("what is abandoned never leaves, and its end is told to nobody") {
  Bench bench;
  bench.connect();
  bench.client.stream->out().put(as_bytes("never"));
  bench.client.stream->flush_later();
  bench.client.stream->abandon();
  bench.door.peer.stream->out().put(as_bytes("neither is this read"));
  bench.door.peer.stream->flush();
  bench.client.stream.reset();
  bench.run([&] { return !bench.door.peer.closed.empty(); });
  CHECK(bench.door.peer.received.empty());
  CHECK(bench.client.received.empty());
  CHECK(bench.client.closed.empty());
}

TEST_CASE("an address in use gives an error that says what to do; a stale socket file does not") {
  Bench bench;
  Door other;
  const auto taken = bench.loop.listen(bench.directory.socket("s"), 0660, other);
  REQUIRE_FALSE(taken.has_value());
  CHECK(taken.error().hint.find("another process") != std::string::npos);

  const Endpoint stale = bench.directory.socket("stale");
  const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, stale.address.c_str(), sizeof(address.sun_path) - 1);
  REQUIRE(bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0);
  close(fd);
  auto listener = bench.loop.listen(stale, 0600, other);
  REQUIRE(listener.has_value());
  struct stat info {};
  REQUIRE(stat(stale.address.c_str(), &info) == 0);
  CHECK((info.st_mode & 0777) == 0600);
}

TEST_CASE("who is at the other end of an AF_UNIX socket is known from the kernel") {
  Bench bench;
  bench.connect();
  const auto peer = bench.door.peer.stream->credentials();
  REQUIRE(peer.has_value());
  CHECK(peer->pid == getpid());
  CHECK(peer->uid == getuid());
}

TEST_CASE("the timer fires at its time and not before") {
  Bench bench(false);
  const Instant due = bench.loop.now() + milliseconds(30);
  Instant fired{};
  bench.clockwork.timer = [&] {
    fired = bench.loop.now();
    bench.loop.stop();
  };
  bench.loop.arm_timer(due);
  bench.loop.run();
  CHECK(fired + milliseconds(1) >= due);
}

TEST_CASE("a log line holds no control bytes, and a flood of one kind is cut short") {
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  Log log(ends[1]);
  log.write(LogLevel::kInfo, "event", {{"text", "a\n\"b\"\x1b[31m"}});
  for (int i = 0; i < 1000; ++i) log.write(LogLevel::kWarning, "flood", {{"n", std::to_string(i)}}, "peer");
  close(ends[1]);
  std::string text(200'000, '\0');
  size_t size = 0;
  for (ssize_t got = 0; (got = read(ends[0], text.data() + size, text.size() - size)) > 0;)
    size += static_cast<size_t>(got);
  close(ends[0]);
  text.resize(size);
  CHECK(text.find("text=\"a\\x0a\\\"b\\\"\\x1b[31m\"\n") != std::string::npos);
  // A flood that crosses the turn of a second or two is cut twice or three times.
  CHECK(std::count(text.begin(), text.end(), '\n') <= 1 + 3 * 10);
}

}  // namespace
}  // namespace mesh::io
