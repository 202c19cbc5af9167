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
  // Opens or makes the file at `path` with one number per key, each as an earlier process left it. Without a usable
  // file (unwritable directory, another process has it) it works on plain memory, all at 0, and says why in problem().
  StateFile(const std::string& path, const std::vector<std::string>& keys);
  ~StateFile();
  StateFile(const StateFile&) = delete;
  StateFile& operator=(const StateFile&) = delete;

  // One per key, in the order given. Valid while this lives.
  std::span<uint32_t> numbers() { return numbers_; }
  const std::string& problem() const { return problem_; }

 private:
  void* mapping_ = nullptr;
  size_t mapped_bytes_ = 0;
  std::vector<uint32_t> fallback_;
  std::span<uint32_t> numbers_;
  int fd_ = -1;  // holds the lock
  std::string problem_;
};

}  // namespace mesh::io
