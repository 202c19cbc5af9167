// Who may gather a large message, and who waits.
#include "sidecar/proxy/gathering_room.h"

#include <doctest/doctest.h>

namespace mesh::proxy {
namespace {

using limits::KiB;
using limits::MiB;

struct Asked {
  bool has_room;
  std::vector<uint64_t> admitted;
};

Asked ask(GatheringRoom& room, uint64_t session, size_t bytes) {
  Asked asked{};
  asked.has_room = room.ask(session, bytes, asked.admitted);
  return asked;
}

std::vector<uint64_t> give_back(GatheringRoom& room, uint64_t session) {
  std::vector<uint64_t> admitted;
  room.give_back(session, admitted);
  return admitted;
}

TEST_CASE("huge messages keep no smaller one out, and the largest gets in beside others") {
  GatheringRoom room;
  CHECK(ask(room, 1, 60 * MiB).has_room);
  CHECK(ask(room, 2, 60 * MiB).has_room);
  CHECK_FALSE(ask(room, 3, 2 * MiB).has_room);
  for (uint64_t session = 10; session < 16; ++session) CHECK(ask(room, session, MiB).has_room);
  CHECK_FALSE(ask(room, 16, 100 * KiB).has_room);
  CHECK(room.is_wanted_from(1));
  CHECK(room.is_wanted_from(10));
  CHECK_FALSE(room.is_wanted_from(16));  // it has none
}

TEST_CASE("who came last of those that wait goes first, and who left waits no more") {
  GatheringRoom room;
  ask(room, 1, 3 * MiB);
  ask(room, 2, 3 * MiB);
  for (uint64_t session = 3; session <= 5; ++session) CHECK_FALSE(ask(room, session, 3 * MiB).has_room);
  CHECK_FALSE(ask(room, 4, 3 * MiB).has_room);  // asks again, and waits once
  CHECK(give_back(room, 5).empty());
  CHECK(give_back(room, 1) == std::vector<uint64_t>{4});
  CHECK(ask(room, 4, 3 * MiB).has_room);
  CHECK(give_back(room, 2) == std::vector<uint64_t>{3});
  CHECK_FALSE(room.is_wanted_from(3));
}

TEST_CASE("a message that turns out larger changes its place, and lets one in where it was") {
  GatheringRoom room;
  for (uint64_t session = 1; session <= 6; ++session) ask(room, session, MiB);
  CHECK_FALSE(ask(room, 7, MiB).has_room);
  const Asked grown = ask(room, 1, 2 * MiB);
  CHECK(grown.has_room);
  CHECK(grown.admitted == std::vector<uint64_t>{7});
  CHECK(ask(room, 1, 500 * KiB).has_room);  // the next message of the same connection: the place is its own
  CHECK(give_back(room, 1).empty());
}

TEST_CASE("all that was taken is given back") {
  GatheringRoom room;
  for (int round = 0; round < 100; ++round) {
    for (uint64_t session = 1; session <= 40; ++session) ask(room, session, session * 200 * KiB);
    for (uint64_t session = 1; session <= 40; ++session) ask(room, session, session * 300 * KiB);
    for (uint64_t session = 40; session >= 1; --session) give_back(room, session);
  }
  CHECK(ask(room, 1, 3 * MiB).has_room);
  CHECK(ask(room, 2, 3 * MiB).has_room);
  CHECK_FALSE(ask(room, 3, 3 * MiB).has_room);
}

}  // namespace
}  // namespace mesh::proxy
