// Where the memory of a region comes from. A mapped file may promise more than there is, and whoever touches a page
// that cannot be had is killed (SIGBUS): so pages are asked for before they are touched for the first time.
#pragma once

#include <cstddef>

namespace mesh {

class Backing {
 public:
  virtual ~Backing() = default;
  // Whether all of [offset, offset + bytes) may be read and written from now on. Asked again it says yes again.
  virtual bool reserve(size_t offset, size_t bytes) = 0;
};

}  // namespace mesh
