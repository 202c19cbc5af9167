#include "common/base/check.h"

#include <cstdio>
#include <cstdlib>

namespace mesh {

void check_failed(const char* expression, const char* file, int line) {
  std::fprintf(stderr, "level=fatal event=check_failed expression=\"%s\" at=%s:%d\n", expression, file, line);
  std::abort();
}

}  // namespace mesh
