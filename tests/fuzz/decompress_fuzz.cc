// No input becomes more bytes than it may.
#include "common/base/check.h"
#include "common/base/limits.h"
#include "common/wire/compression.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  namespace limits = mesh::limits;
  constexpr size_t kLimitBytes = limits::MiB;
  const auto plain = mesh::wire::decompress({data, size}, kLimitBytes);
  if (!plain) return 0;
  MESH_CHECK(plain->size() <= kLimitBytes);
  MESH_CHECK(plain->size() <= limits::inflate_ratio_max * size + limits::inflate_slack_bytes);
  MESH_CHECK(!mesh::wire::decompress({data, size}, plain->size() - 1) || plain->empty());
  return 0;
}
