// An order to purge that says anything: it is refused with a hint, or names something that can be said again.

#include <cstddef>
#include <cstdint>

#include "common/base/check.h"
#include "common/base/slice.h"
#include "sidecar/proxy/purge_spec.h"

using namespace mesh;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto read = proxy::read_purge_spec(as_text(ByteView(data, size)));
  if (!read) {
    MESH_CHECK(read.error().code == Code::kInvalid && !read.error().hint.empty() && read.error().text.size() < 300);
    return 0;
  }
  using Kind = proxy::PurgeSpec::Kind;
  MESH_CHECK(!read->text().empty());
  MESH_CHECK((read->kind == Kind::kMethod || read->kind == Kind::kTag) == !read->name.empty());
  MESH_CHECK(read->kind == Kind::kAll || read->kind == Kind::kKey || !read->service.empty());
  return 0;
}
