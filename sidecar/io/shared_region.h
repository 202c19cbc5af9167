// A file in memory (/dev/shm) that several processes map.
//
// It is made once, whole and of its final size, and never changes it: whoever comes later takes it as it is, also where
// its own configuration says another size, so that all on a host share one. To have another size, stop all and remove
// it. Its owner alone may open it. A file can be truncated by its owner, and then whoever touches what went is killed;
// memory that is sealed against that (memfd) has no name by which others find it, and would need somebody to hand it
// out. So that is left to the owner, who can kill all of them anyway.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "common/base/backing.h"
#include "common/base/result.h"

namespace mesh::io {

class SharedRegion final : public Backing {
 public:
  // Makes a file of that size, rounded up to pages, where there is none; all 0. DENIED if the file is not this user's
  // alone or no regular one, STORAGE if it cannot be had.
  static Result<std::unique_ptr<SharedRegion>> open(const std::string& path, size_t bytes);
  ~SharedRegion() override;
  SharedRegion(const SharedRegion&) = delete;
  SharedRegion& operator=(const SharedRegion&) = delete;

  // As long as this lives. No byte of it may be touched before it was reserved, by any process.
  std::span<std::byte> memory() const { return memory_; }
  bool reserve(size_t offset, size_t bytes) override;

 private:
  explicit SharedRegion(std::string path) : path_(std::move(path)) {}
  int open_file();
  int make_file(size_t bytes);
  int map();

  std::string path_;
  int fd_ = -1;
  std::span<std::byte> memory_;
};

}  // namespace mesh::io
