// A few numbers that survive kill -9: how many requests of REQ sockets were unanswered, per port.
//
// They live in a mapped file, so keeping them costs an increment and no system call, and the kernel keeps the page when
// the process dies.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"

namespace mesh::io {

class StateFile {
 public:
  // Opens or makes the file at `path` with one number per key, each at 0. What an earlier process left is in
  // previous(). Without a usable file (unwritable directory) it works on plain memory and says why in problem().
  StateFile(const std::string& path, const std::vector<std::string>& keys);
  ~StateFile();
  StateFile(const StateFile&) = delete;
  StateFile& operator=(const StateFile&) = delete;

  // One per key, in the order given. Valid while this lives.
  std::span<uint32_t> numbers() { return numbers_; }
  // What stood there before, 0 for a key that did not.
  const std::vector<uint32_t>& previous() const { return previous_; }
  const std::string& problem() const { return problem_; }

 private:
  void* mapping_ = nullptr;
  size_t mapped_bytes_ = 0;
  std::vector<uint32_t> fallback_;
  std::span<uint32_t> numbers_;
  std::vector<uint32_t> previous_;
  std::string problem_;
};

}  // namespace mesh::io
