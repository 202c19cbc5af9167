// What the processes that share a MemfdDevice agree on: how large the card is, what was created on it, and how it is to
// misbehave. Private to sidecar/io/gpu, except for tests.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "sidecar/io/gpu/device_memory.h"

namespace mesh::io {

// Levers of a card that is not there. All processes that share the device see them at once.
struct MemfdPlant {
  std::atomic<uint64_t> total_bytes;
  std::atomic<uint64_t> foreign_bytes;    // used by somebody who asked nobody
  std::atomic<uint32_t> creates_to_fail;  // so many next creations find no memory
  std::atomic<uint32_t> free_delay_ms;    // memory counts as used so much longer than anybody holds it
  std::atomic<uint32_t> is_wsl2;          // no export, and nobody knows what a process uses
  std::atomic<int32_t> temperature_mc;    // thousandths of a degree
  std::atomic<int32_t> slowdown_mc;
  std::atomic<uint32_t> power_mw;
  std::atomic<uint32_t> busy_permille;
  std::atomic<uint32_t> is_slowed_by_heat;
};

// A file in memory that one process has open or mapped.
struct HeldFile {
  pid_t pid = 0;
  uint64_t inode = 0;
  uint64_t bytes = 0;
};

// What all processes whose /proc this one may read hold of files in memory with that name; each file once a process. A
// descriptor that is on its way through a socket is not seen.
std::vector<HeldFile> held_files(const std::string& name);

class MemfdBook {
 public:
  // With an empty path the book is this process's alone. One that exists is taken as it is.
  static MemoryResult<std::unique_ptr<MemfdBook>> open(const std::string& path, uint64_t total_bytes);
  ~MemfdBook();
  MemfdBook(const MemfdBook&) = delete;
  MemfdBook& operator=(const MemfdBook&) = delete;

  MemfdPlant& plant();
  // The name of the card's files; the same in all processes.
  std::string file_name() const;

  // Says whether that much is free, and takes it. `inode` is of the file that will hold it.
  bool admit(uint64_t inode, uint64_t bytes);
  // Used by whoever holds something, by delayed frees, and by strangers.
  uint64_t used_bytes();
  // The same, and who holds what of it; all of it seen in one look.
  uint64_t used_bytes(std::vector<HeldFile>& held);

 private:
  struct Entry;
  struct Pages;
  class Locked;
  MemfdBook(OwnedFd file, Pages* pages) : file_(std::move(file)), pages_(pages) {}
  uint64_t sum() const;
  void strike_out_freed(const std::vector<HeldFile>& held_now);

  OwnedFd file_;
  Pages* pages_;
  std::mutex mutex_;  // a file's lock does not keep threads apart
};

}  // namespace mesh::io
