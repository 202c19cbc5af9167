// The model that a method computes with: its part of a contract.
#pragma once

#include <cstdint>
#include <string>

namespace mesh::contract {

// Methods that name the same model share its memory.
struct ModelTerms {
  std::string name;
  uint64_t bytes = 0;  // of one GPU, when it is loaded and at work
  // Memory is not given back at once: the next call of a burst finds the model loaded.
  int64_t hold_ms = 30'000;
  int64_t load_ms = 0;  // what it takes to load it; 0: unknown

  // What is reckoned with: of a disk that nobody has measured, and a model of common size, if it is unknown.
  int64_t expected_load_ms() const { return load_ms > 0 ? load_ms : 3000; }
};

}  // namespace mesh::contract
