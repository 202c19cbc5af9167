// Records appended to a file, to be found after the process was killed.
//
// What a write call has accepted survives the process, not the computer: whoever writes here describes what does not
// survive the computer either, so nothing waits for a disk. Each record has a checksum; where the first one is torn the
// journal ends.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "sidecar/io/gpu/owned_fd.h"

namespace mesh::io {

class JournalFile {
 public:
  static constexpr size_t kRecordBytesMax = 64 * 1024;
  static constexpr size_t kFileBytesMax = 256 * 1024 * 1024;

  // The records that are whole are appended to `records`. The file is made if need be, and not changed: the first
  // append() wants a rewrite() before it.
  static Result<JournalFile> open(const std::string& path, std::vector<std::string>& records);

  // In one write call.
  Result<void> append(std::span<const std::string> records);
  // From now on it holds these alone; whoever is killed meanwhile finds the old ones or the new ones.
  Result<void> rewrite(std::span<const std::string> records);
  uint64_t bytes() const { return bytes_; }

 private:
  JournalFile(std::string path, OwnedFd file) : path_(std::move(path)), file_(std::move(file)) {}

  std::string path_;
  OwnedFd file_;
  uint64_t bytes_ = 0;
};

}  // namespace mesh::io
