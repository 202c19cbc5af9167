// MESH_CHECK guards what we promised ourselves; it stays on in release builds. What came over a wire is never
// checked with it: that is a Result.
#pragma once

namespace mesh {

[[noreturn]] void check_failed(const char* expression, const char* file, int line);

}  // namespace mesh

#define MESH_CHECK(expression) \
  (__builtin_expect(!!(expression), 1) ? void(0) : ::mesh::check_failed(#expression, __FILE__, __LINE__))
