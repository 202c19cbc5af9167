// One agent and the arbiter, over a real socket: what it is granted, what it is told when it is wrong.

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "common/base/prng.h"
#include "tests/arbiter/arbiter_process.h"

namespace mesh::arbiter {
namespace {

size_t descriptors_of(pid_t pid) {
  size_t count = 0;
  for (const auto& each : std::filesystem::directory_iterator("/proc/" + std::to_string(pid) + "/fd"))
    count += each.path().empty() ? 0 : 1;
  return count;
}

TEST_CASE("a lease is granted, committed and released, and afterwards nothing is held") {
  const ArbiterProcess arbiter("1G");
  const auto client = arbiter.connected();
  pb::Ask ask = ask_for(pb::KIND_ACCOUNTED, 64 * kMi);
  ask.set_peak_bytes(128 * kMi);
  auto lease = client->ask(ask);
  REQUIRE(lease);
  CHECK(lease->bytes() == 128 * kMi);
  CHECK(client->commit(*lease, 64 * kMi));
  CHECK(arbiter.comes_to_say("gpus", "\"leased_bytes\":67108864"));
  CHECK(client->release(*lease));
  CHECK(arbiter.comes_to_say("gpus", "\"leased_bytes\":0"));
  CHECK(arbiter.ask_admin("leases") == "{\"leases\":[]}\n");
}

TEST_CASE("chunks of a backed lease come as descriptors, and those given back by number are somebody else's") {
  const ArbiterProcess arbiter("1G");
  const auto client = arbiter.connected();
  auto lease = client->ask(ask_for(pb::KIND_BACKED, 290 * kMi));
  REQUIRE(lease);
  REQUIRE(lease->chunks.size() == 3);
  uint64_t bytes = 0;
  for (const HeldChunk& chunk : lease->chunks) {
    bytes += chunk.bytes;
    CHECK(lseek(chunk.fd.get(), 0, SEEK_END) == static_cast<off_t>(chunk.bytes));
  }
  CHECK(bytes == 290 * kMi);
  const auto large = std::find_if(lease->chunks.begin(), lease->chunks.end(),
                                  [](const HeldChunk& chunk) { return chunk.bytes == 256 * kMi; });
  REQUIRE(large != lease->chunks.end());

  pb::Request request;
  *request.mutable_commit()->mutable_lease() = lease->grant.lease();
  request.mutable_commit()->set_bytes(34 * kMi);
  request.mutable_commit()->add_surplus_chunks(large->number);
  const uint64_t number = large->number;
  lease->chunks.erase(large);
  auto answer = client->order(request);
  REQUIRE((answer && answer->reply.has_done()));
  auto other = client->ask(ask_for(pb::KIND_BACKED, 256 * kMi));
  REQUIRE(other);
  CHECK(other->chunks[0].number == number);
  CHECK(client->release(*other));
  CHECK(client->release(*lease));
  CHECK(arbiter.comes_to_say("gpus", "\"leased_bytes\":0"));
}

TEST_CASE("who is granted chunks that are at hand is not told first that he waits") {
  const ArbiterProcess arbiter("1G");
  const auto client = arbiter.connected();
  bool was_queued = false;
  client->on_other = [&](const pb::Reply& reply) { was_queued = was_queued || reply.has_queued(); };
  auto lease = client->ask(ask_for(pb::KIND_BACKED, 34 * kMi));
  REQUIRE(lease);
  CHECK(was_queued);  // they had to be made
  CHECK(client->release(*lease));
  was_queued = false;
  auto next = client->ask(ask_for(pb::KIND_BACKED, 34 * kMi));
  REQUIRE(next);
  CHECK_FALSE(was_queued);
  CHECK(next->chunks.size() == 2);
}

TEST_CASE("what does not fit ever is refused at once with the largest that could") {
  const ArbiterProcess arbiter("1G", "512M");
  const auto client = arbiter.connected();
  pb::Request request;
  *request.mutable_ask() = ask_for(pb::KIND_ACCOUNTED, 2048 * kMi);
  const auto answer = client->order(request);
  REQUIRE((answer && answer->reply.has_refused()));
  CHECK(answer->reply.refused().reason() == "never_fits");
  CHECK(answer->reply.refused().largest_bytes() == 512 * kMi);
}

TEST_CASE("for a process that waits another is asked to yield, and it is granted what that gives back") {
  const ArbiterProcess arbiter("1G");
  const auto holder = arbiter.connected();
  auto held = holder->ask(ask_for(pb::KIND_BACKED, 768 * kMi));
  REQUIRE(held);
  REQUIRE(holder->commit(*held, 768 * kMi));
  const pid_t waiter = start_process([&] {
    pb::Ask ask = ask_for(pb::KIND_BACKED, 512 * kMi);
    ask.set_urgency(pb::URGENCY_INTERACTIVE);
    return arbiter.connected()->ask(ask) ? 0 : 1;
  });
  const auto asked = holder->receive();
  REQUIRE((asked && asked->reply.has_yield_asked()));
  CHECK(asked->reply.yield_asked().lease().id() == held->grant.lease().id());
  CHECK(holder->release(*held));
  CHECK(exit_code_of(waiter) == 0);
}

TEST_CASE("noise, lies and descriptors are told as what they are, and leave nothing behind") {
  const ArbiterProcess arbiter("1G");
  const auto victim = arbiter.connected();
  auto lease = victim->ask(ask_for(pb::KIND_ACCOUNTED, 64 * kMi));
  REQUIRE(lease);
  const size_t before = descriptors_of(arbiter.pid());
  const auto hostile = arbiter.connected();
  const auto told = [&]() -> std::string {
    const auto answer = hostile->receive();
    return answer ? answer->reply.failed().rule() : "nothing";
  };
  Prng prng(11);
  for (int i = 0; i < 100; ++i) {
    std::string noise(1 + prng.below(200), '\0');
    for (char& byte : noise) byte = static_cast<char>(prng.next());
    REQUIRE(hostile->send_raw(noise));
    CHECK(told() != "nothing");
  }
  REQUIRE(hostile->send_raw(std::string(40'000, 'x')));
  CHECK(told() == "packet_size");
  const io::OwnedFd null(open("/dev/null", O_RDONLY | O_CLOEXEC));
  REQUIRE(hostile->send_raw("x", std::vector<int>(253, null.get())));
  CHECK(told() == "descriptors");
  CHECK_FALSE(hostile->send_raw("x", std::vector<int>(254, null.get())));  // the kernel does not take so many

  CHECK_FALSE(hostile->release(*lease));  // another connection's
  HeldLease old = *victim->ask(ask_for(pb::KIND_ACCOUNTED, 2 * kMi));
  old.grant.mutable_lease()->set_epoch(99);
  CHECK_FALSE(victim->commit(old, 2 * kMi));
  HeldLease large = {lease->grant, {}};
  CHECK_FALSE(victim->commit(large, 4096 * kMi));
  CHECK(victim->commit(*lease, 64 * kMi));
  CHECK(descriptors_of(arbiter.pid()) <= before + 1);  // the hostile one's connection
  CHECK(arbiter.ask_admin("counters").find("\"descriptors\":1") != std::string::npos);
}

TEST_CASE("who does not say hello is hung up on") {
  const ArbiterProcess arbiter("1G");
  LeaseClient silent = arbiter.client();
  REQUIRE(silent.connect_silently());
  CHECK_FALSE(silent.receive(5000));
  CHECK_FALSE(silent.is_connected());
  CHECK(arbiter.ask_admin("counters").find("\"hung_up_on\":1") != std::string::npos);
}

}  // namespace
}  // namespace mesh::arbiter
