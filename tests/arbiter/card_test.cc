// The arbiter over a real card. Where there is none it is skipped (exit code 77).

#include <doctest/doctest.h>

#include <cstdlib>
#include <vector>

#include "sidecar/io/gpu/cuda_device.h"
#include "tests/arbiter/arbiter_process.h"

namespace mesh::arbiter {
namespace {

constexpr uint64_t kGi = 1024 * kMi;
constexpr uint64_t kSlack = 8 * kMi;  // what the driver rounds

std::unique_ptr<io::CudaDevice> card_of_this_host() {
  auto card = io::CudaDevice::open({});
  if (!card) std::exit(77);
  return std::move(*card);
}

uint64_t used(io::CudaDevice& card) {
  const auto reading = card.query_device();
  REQUIRE(reading.has_value());
  return reading->used_bytes;
}

bool comes_to_use(io::CudaDevice& card, uint64_t bytes) {
  const double until = seconds_now() + 3;
  while (seconds_now() < until) {
    if (used(card) < bytes + kSlack && used(card) + kSlack > bytes) return true;
  }
  return false;
}

struct Mapped {
  std::vector<io::Chunk> chunks;
  io::AddressRange range;
};

Mapped map_all(io::CudaDevice& card, const HeldLease& lease) {
  Mapped mapped;
  auto range = card.reserve(lease.bytes());
  REQUIRE(range.has_value());
  mapped.range = std::move(*range);
  uint64_t at = 0;
  for (const HeldChunk& held : lease.chunks) {
    auto chunk = card.import_chunk(held.fd.get(), held.bytes);
    REQUIRE(chunk.has_value());
    REQUIRE(card.map(mapped.range, at, *chunk, io::Access::kReadWrite).has_value());
    at += held.bytes;
    mapped.chunks.push_back(std::move(*chunk));
  }
  return mapped;
}

TEST_CASE("a lease of a real card is its memory and no more, outlives a killed arbiter, and goes back whole") {
  const auto card = card_of_this_host();
  const auto arbiter = ArbiterProcess::on_card();
  const auto client = arbiter->connected();
  const uint64_t before = used(*card);
  auto lease = client->ask(ask_for(pb::KIND_BACKED, kGi));
  REQUIRE(lease);
  REQUIRE(client->commit(*lease, kGi));
  Mapped mapped = map_all(*card, *lease);
  CHECK(comes_to_use(*card, before + kGi));
  arbiter->kill_arbiter();
  CHECK_FALSE(client->receive());
  REQUIRE(client->connect());
  REQUIRE(client->claim(*lease));
  CHECK(comes_to_use(*card, before + kGi));
  mapped = {};
  REQUIRE(client->release(*lease));
  CHECK(arbiter->comes_to_say("gpus", "\"leased_bytes\":0"));
  CHECK(comes_to_use(*card, before + kGi));  // kept for the next
}

TEST_CASE("how long 1 GiB of a real card takes to an agent") {
  const auto card = card_of_this_host();
  const auto arbiter = ArbiterProcess::on_card();
  const auto client = arbiter->connected();
  std::vector<double> granted;
  std::vector<double> mapped;
  for (int i = 0; i < 20; ++i) {
    double began = seconds_now();
    auto lease = client->ask(ask_for(pb::KIND_BACKED, kGi));
    granted.push_back(seconds_now() - began);
    REQUIRE(lease);
    began = seconds_now();
    { const Mapped there = map_all(*card, *lease); }
    mapped.push_back(seconds_now() - began);
    REQUIRE(client->release(*lease));
    REQUIRE(arbiter->comes_to_say("gpus", "\"leased_bytes\":0"));
  }
  print_times("granted, 1 GiB of a real card", std::move(granted));
  print_times("imported, mapped and unmapped again", std::move(mapped));
  std::vector<double> accounted;
  for (int i = 0; i < 3; ++i) {
    for (int k = 0; k < 64; ++k) {
      const double began = seconds_now();
      auto lease = client->ask(ask_for(pb::KIND_ACCOUNTED, 2 * kMi));
      accounted.push_back(seconds_now() - began);
      REQUIRE(lease);
      REQUIRE(client->release(*lease));
    }
    REQUIRE(arbiter->comes_to_say("gpus", "\"leased_bytes\":0"));  // a sample has shown it
  }
  print_times("accounted", std::move(accounted));
}

}  // namespace
}  // namespace mesh::arbiter
