// Large values, each in a file that is named by what it holds. Private to sidecar/io.
//
// Nothing is synced: what a power cut left short or empty is noticed by whoever reads it.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "sidecar/io/reply_form.h"

namespace mesh::io {

// What a file of so many bytes takes of the disk.
constexpr uint64_t on_disk_bytes(uint64_t size) { return (size + 4095) / 4096 * 4096; }

class ValueFiles {
 public:
  // They lie in folders of the directory `path`, which are made when they are needed.
  explicit ValueFiles(std::string path) : path_(std::move(path)) {}

  // 0 or an errno. Whoever reads sees all of it or nothing.
  int write(const Content& content, ByteView value) const;
  // 0 and the value; EBADMSG where the file holds something else; or an errno.
  int read(const Content& content, uint64_t size, Slice& value) const;
  void remove(const Content& content) const;

  static constexpr int kFolders = 256;
  // Removes what is wanted no more from one of the folders.
  void sweep(int folder, const std::function<bool(const Content&)>& is_wanted) const;

 private:
  std::string folder_path(int folder) const;
  std::string file_path(const Content& content) const;
  bool holds(const std::string& file, ByteView value) const;

  std::string path_;
};

}  // namespace mesh::io
