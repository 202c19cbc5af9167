// Any bytes on disk are a record within its limits, which is written again as it was, or are refused.
#include "common/base/check.h"
#include "common/base/limits.h"
#include "common/wire/kept_record.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace mesh;
  const Slice value = Slice::copy_of(ByteView(data, size));
  const auto head = wire::decode_kept_head(value.view());
  const auto record = wire::decode_kept(value);
  if (!record) return 0;
  MESH_CHECK(head && head->payload == record->payload && head->code == record->code);
  MESH_CHECK(record->part_sizes.size() <= limits::frames_per_reply_max);
  std::string again;
  for (const Slice& slice : wire::encode_kept(*record)) again += slice.text();
  MESH_CHECK(again.size() == size);
  return 0;
}
