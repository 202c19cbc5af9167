// A folder of its own in memory, where there is one, for tests.
#pragma once

#include <doctest/doctest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>

namespace mesh::io {

struct SharedFolder {
  std::string path = (access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp") + std::string("/mesh-shared-test-XXXXXX");
  SharedFolder() { REQUIRE(mkdtemp(path.data()) != nullptr); }
  ~SharedFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
  std::string file() const { return path + "/region"; }
};

}  // namespace mesh::io
