// Any header gives fields within their limits or an INVALID error, and either can be answered.
#include "common/base/check.h"
#include "common/base/limits.h"
#include "common/wire/message.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace mesh;
  const Result<wire::MeshHeader> header = wire::decode_mesh_header({data, size});
  if (!header) {
    MESH_CHECK(header.error().code == Code::kInvalid && !header.error().rule.empty());
    MESH_CHECK(!wire::reply_for(header.error()).empty());
    return 0;
  }
  MESH_CHECK(!header->service.empty());
  MESH_CHECK(header->service.size() <= limits::name_bytes && header->method.size() <= limits::name_bytes);
  MESH_CHECK(header->id.size() <= limits::name_bytes);
  MESH_CHECK(!header->budget_ms || (*header->budget_ms > 0 && *header->budget_ms <= limits::budget_ms_max));
  Error error;
  error.text = error.service = header->service;
  MESH_CHECK(!wire::encode_mesh_reply(*header, error.code, &error).empty());
  return 0;
}
