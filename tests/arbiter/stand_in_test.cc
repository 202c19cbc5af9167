// The arbiter over a driver's interface instead of files in memory.

#include <doctest/doctest.h>

#include <cstdlib>

#include "tests/arbiter/arbiter_process.h"

namespace mesh::arbiter {
namespace {

TEST_CASE("with a driver chunks are granted, outlive a killed arbiter, and are granted again as they are") {
  const char* const folder = std::getenv("MESH_STAND_IN");
  REQUIRE(folder != nullptr);
  const auto arbiter = ArbiterProcess::on_stand_in(folder);
  const auto client = arbiter->connected();
  REQUIRE(client->welcome().gpus_size() == 1);
  CHECK(client->welcome().gpus(0).total_bytes() == 16 * 1024 * kMi);
  auto lease = client->ask(ask_for(pb::KIND_BACKED, 290 * kMi));
  REQUIRE(lease);
  REQUIRE(client->commit(*lease, 290 * kMi));
  const auto card = arbiter->card();
  for (const HeldChunk& chunk : lease->chunks) CHECK(card->import_chunk(chunk.fd.get(), chunk.bytes).has_value());
  arbiter->kill_arbiter();
  CHECK_FALSE(client->receive());
  REQUIRE(client->connect());
  REQUIRE(client->claim(*lease));
  const uint64_t number = lease->chunks[0].number;
  REQUIRE(client->release(*lease));
  const auto next = client->ask(ask_for(pb::KIND_BACKED, 290 * kMi));
  REQUIRE(next);
  CHECK(next->chunks[0].number == number);
  CHECK(arbiter->comes_to_say("gpus", "\"foreign_bytes\":0"));
}

}  // namespace
}  // namespace mesh::arbiter
