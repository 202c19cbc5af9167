// Any bytes are a kept reply that is written again as it was, or are refused; also where the sum is right.
#include <cstring>
#include <vector>

#include "common/base/check.h"
#include "common/cache/kept_form.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace {

using namespace mesh;  // short names in a program of one file

void decode(const Slice& bytes) {
  const auto head = cache::read_kept_form_head(bytes.view());
  const auto found = cache::decode_kept_form(bytes);
  if (!found) return;
  MESH_CHECK(head && head->bytes <= bytes.size() && head->hash == found->kept.key.hash);
  MESH_CHECK(cache::is_intact_kept_form(bytes.view()));
  MESH_CHECK(head->useful_until == found->kept.useful_until());
  const Slice again = cache::encode_kept_form(found->kept, found->origin_name);
  MESH_CHECK(again.size() == head->bytes && cache::kept_form_bytes(found->kept) == head->bytes);
  // Times before there was time are made the first one; all else is as it was.
  const auto twice = cache::decode_kept_form(again);
  MESH_CHECK(twice && twice->kept.body.text() == found->kept.body.text());
  MESH_CHECK(cache::encode_kept_form(twice->kept, twice->origin_name).text() == again.text());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  decode(Slice::copy_of(ByteView(data, size)));
  if (size < cache::kKeptFormHeadBytes) return 0;
  // What a fuzzer does not find: the sum, and the size of all.
  std::vector<uint8_t> mended(data, data + size);
  const auto bytes = static_cast<uint32_t>(size);
  std::memcpy(mended.data() + 12, &bytes, sizeof(bytes));
  const uint64_t sum = XXH3_64bits(mended.data() + 8, size - 8);
  std::memcpy(mended.data(), &sum, sizeof(sum));
  decode(Slice::copy_of(ByteView(mended)));
  return 0;
}
