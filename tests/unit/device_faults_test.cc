// A card that misbehaves on command, and a host that has no card.

#include <doctest/doctest.h>

#include <chrono>
#include <thread>

#include "sidecar/io/gpu/cuda_device.h"
#include "sidecar/io/gpu/memfd_device.h"
#include "sidecar/io/gpu/nvml.h"
#include "tests/unit/shared_folder.h"

namespace mesh::io {
namespace {

constexpr uint64_t kUnit = kMemoryUnitBytes;

std::unique_ptr<MemfdDevice> card_of(uint64_t units, const std::string& book_path = {}) {
  auto opened = MemfdDevice::open({.total_bytes = units * kUnit, .book_path = book_path});
  REQUIRE(opened.has_value());
  return std::move(*opened);
}

TEST_CASE("as many creates fail as were told to, though there is room") {
  const auto card = card_of(4);
  card->plant().creates_to_fail = 2;
  for (int i = 0; i < 2; ++i) {
    const auto failed = card->create(kUnit);
    REQUIRE(!failed.has_value());
    CHECK(failed.error().fault == MemoryFault::kOutOfMemory);
  }
  CHECK(card->create(kUnit).has_value());
}

TEST_CASE("what strangers use cannot be had, and a card can be fuller than full") {
  const auto card = card_of(4);
  const auto chunk = card->create(2 * kUnit);
  card->plant().foreign_bytes = kUnit;
  CHECK(card->query_device()->used_bytes == 3 * kUnit);
  CHECK(!card->create(2 * kUnit).has_value());
  CHECK(card->create(kUnit).has_value());
  card->plant().foreign_bytes = 9 * kUnit;
  CHECK(!card->create(kUnit).has_value());
  CHECK(card->query_device()->used_bytes == 11 * kUnit);
}

TEST_CASE("memory that is freed late is used until then") {
  const auto card = card_of(1);
  card->plant().free_delay_ms = 80;
  card->create(kUnit)->release();
  const auto released = std::chrono::steady_clock::now();
  CHECK(card->query_device()->used_bytes == kUnit);
  while (!card->create(kUnit).has_value()) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  CHECK(std::chrono::steady_clock::now() - released >= std::chrono::milliseconds(80));
}

TEST_CASE("as under WSL2, memory can be had but not exported, and nobody knows who uses how much") {
  const auto card = card_of(4);
  const auto chunk = card->create(kUnit);
  const auto fd = card->export_chunk(*chunk);
  card->plant().is_wsl2 = 1;
  CHECK(card->create(kUnit).has_value());
  CHECK(!card->caps().can_export);
  CHECK(!card->caps().tells_processes);
  CHECK(card->export_chunk(*chunk).error().fault == MemoryFault::kUnsupported);
  CHECK(card->import_chunk(fd->get(), kUnit).error().fault == MemoryFault::kUnsupported);
  CHECK(card->query_process(1).error().fault == MemoryFault::kUnsupported);
  CHECK(card->query_device()->used_bytes == kUnit);
}

TEST_CASE("the plant's temperature is what a reading says, in every process that has the book") {
  const SharedFolder folder;
  const auto card = card_of(4, folder.file());
  const auto seen_by = card_of(1, folder.file());
  card->plant().temperature_mc = 84'500;
  card->plant().is_slowed_by_heat = 1;
  card->plant().busy_permille = 930;
  const auto reading = seen_by->query_device();
  CHECK(reading->total_bytes == 4 * kUnit);
  REQUIRE(reading->thermal.has_value());
  CHECK(reading->thermal->temperature_c == doctest::Approx(84.5));
  CHECK(reading->thermal->busy == doctest::Approx(0.93));
  CHECK(reading->thermal->is_slowed_by_heat);
  CHECK(seen_by->caps().uuid == card->caps().uuid);
}

TEST_CASE("a host without CUDA or NVML says so, and one that has them opens them") {
  const auto device = CudaDevice::open({});
  if (device) {
    CHECK((*device)->caps().total_bytes > 0);
    CHECK((*device)->caps().uuid.starts_with("GPU-"));
  } else {
    CHECK(device.error().fault == MemoryFault::kAbsent);
    CHECK(!device.error().text.empty());
  }
  const auto nvml = Nvml::open();
  if (nvml) {
    CHECK((*nvml)->count().has_value());
  } else {
    CHECK(nvml.error().fault == MemoryFault::kAbsent);
    CHECK(!nvml.error().text.empty());
  }
}

}  // namespace
}  // namespace mesh::io
