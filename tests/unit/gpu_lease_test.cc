#include <doctest/doctest.h>

#include "common/gpu/lease.h"

namespace mesh::gpu {
namespace {

const Instant kNow{milliseconds(1'000'000)};

Request request(Units min, Units want, Units peak = 0) {
  Request made;
  made.min = min;
  made.want = want;
  made.peak = peak;
  return made;
}

Lease reserved(Request asked) {
  Lease lease;
  lease.request = asked;
  lease.units = asked.ask();
  lease.become(LeaseState::kReserved);
  return lease;
}

constexpr LeaseState kAll[] = {LeaseState::kQueued,     LeaseState::kReserved, LeaseState::kActive,
                               LeaseState::kYieldAsked, LeaseState::kDraining, LeaseState::kDying,
                               LeaseState::kOrphaned,   LeaseState::kReleased};

TEST_CASE("who is dying can only be released, and who is released is nothing any more") {
  for (const LeaseState next : kAll) {
    CHECK(may_become(LeaseState::kDying, next) == (next == LeaseState::kReleased));
    CHECK_FALSE(may_become(LeaseState::kReleased, next));
  }
}

TEST_CASE("whoever holds memory can die, and nobody is granted twice") {
  for (const LeaseState state : kAll) {
    if (holds_memory(state) && state != LeaseState::kDying) CHECK(may_become(state, LeaseState::kDying));
    CHECK_FALSE(may_become(state, LeaseState::kQueued));
    const bool is_granted_now = state == LeaseState::kQueued || state == LeaseState::kOrphaned;
    // Who was asked for it while he loaded, and kept it, goes on.
    const bool goes_on = state == LeaseState::kYieldAsked || state == LeaseState::kDraining;
    CHECK(may_become(state, LeaseState::kReserved) == (is_granted_now || goes_on));
  }
}

TEST_CASE("a commit gives back what was needed only to load, once") {
  Lease lease = reserved(request(100, 200, 300));
  CHECK(lease.units == 300);
  const auto surplus = lease.commit(180);
  REQUIRE(surplus);
  CHECK(*surplus == 120);
  CHECK(lease.units == 180);
  CHECK(lease.state == LeaseState::kActive);
  CHECK_FALSE(lease.commit(10));
  CHECK(lease.units == 180);
}

TEST_CASE("a commit to more than was granted, or to nothing, is refused and changes nothing") {
  Lease lease = reserved(request(100, 200));
  CHECK_FALSE(lease.commit(201));
  CHECK_FALSE(lease.commit(0));
  CHECK_FALSE(lease.commit(-1));
  CHECK(lease.units == 200);
  CHECK(lease.state == LeaseState::kReserved);
}

TEST_CASE("a loader is not served with less than its peak") {
  CHECK(request(100, 200, 300).least() == 300);
  CHECK(request(100, 200, 150).least() == 150);
  CHECK(request(100, 200, 150).ask() == 200);
  CHECK(request(100, 200).least() == 100);
}

TEST_CASE("requests that make no sense are told which rule they break") {
  CHECK(check(request(1, 1)));
  CHECK(check(request(0, 0)).error().rule == "lease_size");
  CHECK(check(request(-1, 5)).error().rule == "lease_size");
  CHECK(check(request(6, 5)).error().rule == "lease_size");
  CHECK(check(request(1, INT64_MAX)).error().rule == "lease_size");
  Request gpus = request(1, 1);
  gpus.gpus = 0b101;
  gpus.gpu_count = 3;
  CHECK(check(gpus).error().rule == "lease_gpus");
  gpus.gpu_count = 2;
  CHECK(check(gpus));
  Request shared = request(1, 1);
  shared.kind = LeaseKind::kShared;
  CHECK(check(shared).error().rule == "lease_model");
  shared.model = {1, 2};
  CHECK(check(shared));
  Request late = request(1, 1);
  late.ttl = milliseconds(-1);
  CHECK(check(late).error().rule == "lease_time");
}

TEST_CASE("only as much can be had of a lease as it agreed to") {
  Lease lease = reserved(request(100, 200));
  lease.request.revocability = Revocability::kNever;
  CHECK(lease.yieldable() == 0);
  lease.request.revocability = Revocability::kTrim;
  CHECK(lease.yieldable() == 100);
  lease.request.revocability = Revocability::kOffload;
  CHECK(lease.yieldable() == 200);
  lease.become(LeaseState::kDying);
  CHECK(lease.yieldable() == 0);
}

TEST_CASE("a lease without a time to live never runs out, another does unless renewed") {
  Lease lease = reserved(request(1, 1));
  lease.renew(kNow);
  CHECK(lease.expires_at == kNever);
  lease.request.ttl = milliseconds(500);
  lease.renew(kNow);
  CHECK(lease.expires_at == kNow + milliseconds(500));
  lease.renew(kNow + milliseconds(400));
  CHECK(lease.expires_at == kNow + milliseconds(900));
}

TEST_CASE("a return ticket is good once, for its process, and for its time") {
  ReturnTickets tickets;
  const LeaseId id{1, 1};
  const ReturnTicket ticket{id, 7, 50, kNow - milliseconds(9000), kNow + milliseconds(1000)};
  tickets.put(ticket);
  CHECK_FALSE(tickets.take(id, 8, kNow));
  const auto taken = tickets.take(id, 7, kNow);
  REQUIRE(taken);
  CHECK(taken->asked_at == kNow - milliseconds(9000));
  CHECK_FALSE(tickets.take(id, 7, kNow));
  tickets.put(ticket);
  CHECK_FALSE(tickets.take(id, 7, kNow + milliseconds(1000)));
}

TEST_CASE("tickets are bounded: the oldest goes, and all of a process that is gone") {
  ReturnTickets tickets;
  for (uint64_t i = 0; i < bounds::tickets_max + 5; ++i) {
    tickets.put({{i, i}, i % 2, 1, kNow, kNow + milliseconds(1000)});
  }
  CHECK(tickets.size() == bounds::tickets_max);
  CHECK_FALSE(tickets.take({4, 4}, 0, kNow));
  CHECK(tickets.take({5, 5}, 1, kNow));
  tickets.forget(0);
  CHECK(tickets.size() == bounds::tickets_max / 2 - 1);
}

}  // namespace
}  // namespace mesh::gpu
