// Agents and arbiters that are killed: what was granted is in one hand at any time.

#include <doctest/doctest.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <vector>

#include "common/base/prng.h"
#include "tests/arbiter/arbiter_process.h"

namespace mesh::arbiter {
namespace {

constexpr uint64_t kCardBytes = 1024 * kMi;

// Holds most of the card until it is killed, with some of it really in memory, or so much as the environment says.
int hold(const ArbiterProcess& arbiter, std::atomic<int>& is_holding) {
  const auto client = arbiter.connected();
  const auto lease = client->ask(ask_for(pb::KIND_BACKED, 768 * kMi), 30'000);
  if (!lease) return 1;
  uint64_t left = static_cast<uint64_t>(rounds("MESH_HELD_MIB", 128)) * kMi;
  for (const HeldChunk& chunk : lease->chunks) {
    const uint64_t bytes = std::min(left, chunk.bytes);
    if (bytes == 0) break;
    left -= bytes;
    void* const at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, chunk.fd.get(), 0);
    if (at == MAP_FAILED) return 2;
  }
  is_holding = 1;
  for (;;) pause();
}

TEST_CASE("a killed agent's memory is granted when its process is gone, and not before") {
  const ArbiterProcess arbiter("1G");
  const auto client = arbiter.connected();
  const int kills = rounds("MESH_AGENT_KILLS", 50);
  std::vector<double> times;
  for (int i = 0; i < kills; ++i) {
    const SharedValue<std::atomic<int>> is_holding;
    const pid_t holder = start_process([&] { return hold(arbiter, *is_holding); });
    const double until = seconds_now() + 20;
    while (*is_holding == 0 && seconds_now() < until) usleep(500);
    REQUIRE(*is_holding == 1);
    const io::OwnedFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, holder, 0)));
    pb::Request request;
    *request.mutable_ask() = ask_for(pb::KIND_BACKED, 512 * kMi);
    const uint64_t number = client->send(request);
    CHECK_FALSE(client->answer_to(number, 20));
    const double began = seconds_now();
    kill(holder, SIGKILL);
    auto answer = client->answer_to(number);
    pollfd ended{.fd = pidfd.get(), .events = POLLIN, .revents = 0};
    const bool is_gone = poll(&ended, 1, 0) == 1;
    REQUIRE((answer && answer->reply.has_granted()));
    CHECK(is_gone);
    times.push_back(seconds_now() - began);
    HeldLease lease{answer->reply.granted(), std::move(answer->chunks)};
    REQUIRE(client->release(lease));
    exit_code_of(holder);
  }
  print_times("from the kill to the grant to the next", times);
  CHECK(arbiter.comes_to_say("gpus", "\"leased_bytes\":0"));
  CHECK(arbiter.ask_admin("leases") == "{\"leases\":[]}\n");
  CHECK(arbiter.ask_admin("gpus").find("\"books_agree\":true") != std::string::npos);
}

// What really is in whose hands, as the agents themselves tell.
struct Truth {
  std::atomic<uint64_t> held_bytes;
  std::atomic<uint64_t> grants;
  std::atomic<uint64_t> double_grants;
  std::atomic<uint64_t> out_of_memory;
  std::atomic<uint64_t> overwritten;
  std::atomic<uint64_t> lost;  // leases that the new arbiter did not know
  std::atomic<uint64_t> adopted;
  std::atomic<uint64_t> refused;
  std::atomic<bool> is_over;
  std::atomic<double> killed_at;
  std::atomic<uint32_t> times;
  std::array<double, 4096> adoption_seconds;
};

class Agent {
 public:
  Agent(const ArbiterProcess& arbiter, uint64_t seed, Truth& truth)
      : client_(arbiter.client()), card_(arbiter.card()), prng_(seed), seed_(seed), truth_(truth) {}

  int run() {
    if (!client_.connect(10'000)) return 1;
    while (!truth_.is_over) {
      if (!client_.is_connected() && !client_.connect(10'000)) return 2;
      const bool is_backed = prng_.below(2) == 0;
      auto lease = client_.ask(ask_for(is_backed ? pb::KIND_BACKED : pb::KIND_ACCOUNTED, size()), 20'000);
      if (lease) {
        use(*lease, is_backed);
      } else if (client_.is_connected()) {
        ++truth_.refused;
      }
    }
    return 0;
  }

 private:
  uint64_t size() { return (32 + prng_.below(128)) * io::kMemoryUnitBytes; }

  void use(HeldLease& lease, bool is_backed) {
    ++truth_.grants;
    if (truth_.held_bytes.fetch_add(lease.bytes()) + lease.bytes() > kCardBytes) ++truth_.double_grants;
    io::Chunk own;
    if (!is_backed) {
      auto made = card_->create(lease.bytes());
      if (made) own = std::move(*made);
      if (!made) ++truth_.out_of_memory;
    }
    stamp(lease);
    const double until = seconds_now() + 0.005 + static_cast<double>(prng_.below(160)) / 1000;
    while (seconds_now() < until) {
      if (client_.is_connected()) {
        (void)client_.receive(5);
      } else {
        adopt(lease);
      }
    }
    check_stamp(lease);
    own.release();
    lease.chunks.clear();
    truth_.held_bytes -= lease.bytes();
    // Who was not answered says it again, to whoever is there then.
    for (int i = 0; i < 20 && !client_.release(lease); ++i) {
      if (client_.is_connected()) break;  // the arbiter before had heard of it
      if (!client_.connect(10'000)) break;
    }
  }

  void adopt(HeldLease& lease) {
    if (!client_.connect(10'000)) return;
    if (client_.claim(lease)) {
      ++truth_.adopted;
      truth_.adoption_seconds[truth_.times++ % 4096] = seconds_now() - truth_.killed_at;
    } else if (client_.is_connected()) {
      ++truth_.lost;
    }
  }

  void stamp(const HeldLease& lease) {
    for (const HeldChunk& chunk : lease.chunks) (void)!pwrite(chunk.fd.get(), &seed_, sizeof(seed_), 0);
  }
  void check_stamp(const HeldLease& lease) {
    for (const HeldChunk& chunk : lease.chunks) {
      uint64_t found = 0;
      (void)!pread(chunk.fd.get(), &found, sizeof(found), 0);
      if (found != seed_) ++truth_.overwritten;
    }
  }

  LeaseClient client_;
  std::unique_ptr<io::MemfdDevice> card_;
  Prng prng_;
  uint64_t seed_;
  Truth& truth_;
};

TEST_CASE("an arbiter that is killed under load comes back, knows what is held, and grants nothing twice") {
  const ArbiterProcess arbiter("1G");
  const SharedValue<Truth> truth;
  std::vector<pid_t> agents;
  for (uint64_t i = 1; i <= 6; ++i) agents.push_back(start_process([&, i] { return Agent(arbiter, i, *truth).run(); }));
  const int kills = rounds("MESH_ARBITER_KILLS", 20);
  for (int i = 0; i < kills; ++i) {
    usleep(400'000);
    truth->killed_at = seconds_now();
    arbiter.kill_arbiter();
    REQUIRE(arbiter.comes_to_say("gpus", "\"epoch\":" + std::to_string(i + 2), 10'000));
    // One that was written down and not yet told when it was killed is waited for, for 3 s.
    REQUIRE(arbiter.comes_to_say("gpus", "\"is_reconciled\":true", 10'000));
  }
  usleep(500'000);
  truth->is_over = true;
  for (const pid_t agent : agents) CHECK(exit_code_of(agent) == 0);
  MESSAGE(kills << " kills, " << truth->grants.load() << " grants, " << truth->adopted.load() << " adopted, "
                << truth->refused.load() << " refused");
  print_times(
      "from the kill to the claim agreed to",
      {truth->adoption_seconds.begin(), truth->adoption_seconds.begin() + std::min(4096u, truth->times.load())});
  CHECK(truth->double_grants == 0);
  CHECK(truth->out_of_memory == 0);
  CHECK(truth->overwritten == 0);
  CHECK(truth->lost == 0);
  CHECK(truth->adopted > 0);
  CHECK(arbiter.comes_to_say("gpus", "\"leased_bytes\":0", 15'000));
}

TEST_CASE("memory that an agent was granted keeps its content while there is no arbiter, and after it") {
  const ArbiterProcess arbiter("1G");
  LeaseClient client = arbiter.client();
  REQUIRE(client.connect());
  auto lease = client.ask(ask_for(pb::KIND_BACKED, 32 * kMi));
  REQUIRE(lease);
  REQUIRE(client.commit(*lease, 32 * kMi));
  const std::string text = "still here";
  REQUIRE(pwrite(lease->chunks[0].fd.get(), text.data(), text.size(), 0) > 0);
  arbiter.kill_arbiter();
  CHECK_FALSE(client.receive(10'000));
  REQUIRE(client.connect());
  REQUIRE(client.claim(*lease));
  std::string found(text.size(), '\0');
  REQUIRE(pread(lease->chunks[0].fd.get(), found.data(), found.size(), 0) > 0);
  CHECK(found == text);
  const uint64_t number = lease->chunks[0].number;
  CHECK(client.release(*lease));
  auto next = client.ask(ask_for(pb::KIND_BACKED, 32 * kMi));
  REQUIRE(next);
  CHECK(next->chunks[0].number == number);  // the keeper had it
}

}  // namespace
}  // namespace mesh::arbiter
