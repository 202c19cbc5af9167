// How long a message may take that was begun.
#include "sidecar/proxy/message_watch.h"

#include <doctest/doctest.h>

#include "tests/unit/quiet_host.h"

namespace mesh::proxy {
namespace {

using limits::KiB;
using limits::MiB;

class Scene final : public QuietHost, public Session {
 public:
  // Looks every 250 ms, as its deadlines ask for; the rule by which it has to go, or nothing.
  std::string judge_for(int64_t duration_ms, uint64_t bytes_per_s, bool reads = true) {
    for (int64_t ms = 0; ms < duration_ms; ms += limits::stall_check_ms) {
      time += milliseconds(limits::stall_check_ms);
      received += bytes_per_s * limits::stall_check_ms / 1000;
      if (const auto error = watch.judge(reads, received, time)) return error->rule;
    }
    return "";
  }

  bool has_room = true;
  bool is_wanted = false;
  int asked = 0;
  int given_back = 0;
  uint64_t received = 0;
  MessageWatch watch{*this, *this, 8 * MiB};

  bool ask_room(Session&, size_t) override { return ++asked, has_room; }
  void give_room_back(Session&) override { ++given_back; }
  bool is_room_wanted_from(Session&) const override { return is_wanted; }
  void on_bytes(Slice) override {}
  void on_closed(std::string_view) override {}
};

TEST_CASE("a message that moves next to nothing for 1.5 s has to go, one that moves has not") {
  Scene scene;
  scene.watch.look(1000, 2000, 0);
  CHECK(scene.judge_for(10'000, 64 * KiB) == "");
  CHECK(scene.judge_for(limits::stall_ms - 2 * limits::stall_check_ms, 0) == "");
  CHECK(scene.judge_for(3 * limits::stall_check_ms, 0) == "message_stalled");
  CHECK(scene.asked == 0);
}

TEST_CASE("while others wait for its room a message has to move, and fast") {
  Scene scene;
  scene.is_wanted = true;
  scene.watch.look(100 * KiB, 2 * MiB, 0);
  CHECK(scene.judge_for(5000, 9 * MiB) == "");
  CHECK(scene.judge_for(limits::stall_check_ms, 0) == "message_stalled");
  Scene slow;
  slow.is_wanted = true;
  slow.watch.look(100 * KiB, 2 * MiB, 0);
  CHECK(slow.judge_for(limits::stall_check_ms, 7 * MiB) == "message_stalled");
  slow.is_wanted = false;
  CHECK(slow.judge_for(5000, 7 * MiB) == "");
}

TEST_CASE("who waits for room is not to blame, and waits for 3 s at most") {
  Scene scene;
  scene.has_room = false;
  scene.watch.look(100 * KiB, 2 * MiB, 0);
  CHECK(scene.watch.waits());
  CHECK(scene.judge_for(limits::room_wait_ms - 2 * limits::stall_check_ms, 0) == "");
  CHECK(scene.judge_for(2 * limits::stall_check_ms, 0) == "no_room");
}

TEST_CASE("once it has room its time begins") {
  Scene scene;
  scene.has_room = false;
  scene.is_wanted = true;
  scene.watch.look(100 * KiB, 2 * MiB, 0);
  CHECK(scene.judge_for(2000, 0) == "");
  scene.watch.admit(scene.received);
  CHECK_FALSE(scene.watch.waits());
  CHECK(scene.judge_for(1000, 9 * MiB) == "");
}

TEST_CASE("what we do not read is not held against it") {
  Scene scene;
  scene.is_wanted = true;
  scene.watch.look(100 * KiB, 2 * MiB, 0);
  CHECK(scene.judge_for(10'000, 0, false) == "");
  CHECK(scene.judge_for(limits::stall_check_ms, 0, true) == "message_stalled");
}

TEST_CASE("room is given back once: when the message is whole, or when a small one follows it in the same bytes") {
  Scene scene;
  scene.watch.look(100 * KiB, 2 * MiB, 0);
  scene.watch.look(50, 60 * KiB, 2 * MiB);
  CHECK(scene.given_back == 1);
  scene.watch.look(100 * KiB, 2 * MiB, 3 * MiB);
  CHECK(scene.asked == 2);
  scene.watch.look(0, 0, 5 * MiB);
  scene.watch.end();
  CHECK(scene.given_back == 2);
  CHECK(scene.watch.next_deadline() == kNever);
}

}  // namespace
}  // namespace mesh::proxy
