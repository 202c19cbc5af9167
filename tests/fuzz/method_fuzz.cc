// Any body, read for its method. The first byte says how the service names it.
#include <cstddef>
#include <cstdint>

#include "common/base/check.h"
#include "common/base/limits.h"
#include "common/contract/method.h"

using namespace mesh;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  static contract::MethodReader reader;
  static const contract::MethodNaming namings[] = {
      {}, {.fields = {"op"}}, {.fields = {}}, {.fields = {"type", "action"}}};
  const contract::MethodNaming& naming = namings[data[0] % 4];
  const ByteView body(data + 1, size - 1);
  const std::string first(reader.read(body, naming));
  MESH_CHECK(first.size() <= limits::name_bytes);
  MESH_CHECK(!naming.fields.empty() || first.empty());
  for (const char c : first) MESH_CHECK(static_cast<unsigned char>(c) >= ' ' && c != 0x7F);
  const auto key = reader.read_key(body, "order");
  MESH_CHECK(!key || key->size() <= limits::name_bytes);
  for (const char c : key.value_or("")) MESH_CHECK(static_cast<unsigned char>(c) >= ' ' && c != 0x7F);
  // What was read before leaves nothing behind.
  contract::MethodReader fresh;
  MESH_CHECK(fresh.read(body, naming) == first);
  MESH_CHECK(fresh.read_key(body, "order") == key);
  return 0;
}
