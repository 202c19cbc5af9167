// A region of shared memory that is this process's own, for tests.
#pragma once

#include <doctest/doctest.h>

#include <atomic>
#include <utility>
#include <vector>

#include "common/cache/shared_tier.h"

namespace mesh::cache {

struct alignas(64) Line {
  uint64_t words[8];
};

struct Memory final : Backing {
  std::vector<Line> lines;
  uint64_t* words;
  size_t bytes_allowed;
  std::atomic<size_t> refusals = 0;

  explicit Memory(size_t bytes) : lines(bytes / sizeof(Line)), words(lines[0].words), bytes_allowed(bytes) {}
  bool reserve(size_t offset, size_t size) override {
    const bool is_there = offset + size <= bytes_allowed;
    refusals += is_there ? 0 : 1;
    return is_there;
  }
  std::span<std::byte> bytes() { return std::as_writable_bytes(std::span(lines)); }
  SharedTier attach(uint64_t book_id = 1) {
    auto tier = SharedTier::attach(bytes(), *this, book_id);
    REQUIRE(tier.has_value());
    return std::move(*tier);
  }
};

}  // namespace mesh::cache
