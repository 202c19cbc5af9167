#include <doctest/doctest.h>

#include <set>
#include <string>

#include "common/wire/batch.h"
#include "common/wire/kept_record.h"

namespace mesh::wire {
namespace {

Slice joined(const std::vector<Slice>& slices) {
  std::string bytes;
  for (const Slice& slice : slices) bytes += slice.text();
  return Slice::copy_of(bytes);
}

KeptRecord result_of(std::string_view body, std::vector<uint32_t> parts = {}) {
  KeptRecord record;
  record.payload = digest_of({"what was asked"});
  record.is_result = true;
  record.part_sizes = std::move(parts);
  record.body = Slice::copy_of(body);
  return record;
}

TEST_CASE("what is kept of a call comes back, its head from the first bytes alone") {
  for (const KeptRecord& record : {result_of(""), result_of("done"), result_of("ab", {1, 0, 1})}) {
    const Slice value = joined(encode_kept(record));
    const auto whole = decode_kept(value);
    REQUIRE(whole);
    CHECK(whole->payload == record.payload);
    CHECK(whole->is_result);
    CHECK(whole->part_sizes == record.part_sizes);
    CHECK(whole->body.text() == record.body.text());
    const auto head = decode_kept_head(value.view().first(kKeptHeadBytes));
    REQUIRE(head);
    CHECK(head->payload == record.payload);
  }
  KeptRecord intent;
  intent.payload = digest_of({"x"});
  const auto read = decode_kept(joined(encode_kept(intent)));
  REQUIRE(read);
  CHECK_FALSE(read->is_result);
}

TEST_CASE("a record that was cut or changed in its head is refused, and never read beyond its end") {
  const std::string good(joined(encode_kept(result_of("abc", {1, 2}))).text());
  for (size_t size = 0; size < good.size(); ++size) CHECK_FALSE(decode_kept(Slice::copy_of(good.substr(0, size))));
  for (const size_t at : {0, 1, 2, 3, 24}) {
    std::string bad = good;
    bad[at] = '\x7F';
    CHECK_FALSE(decode_kept(Slice::copy_of(bad)));
  }
}

TEST_CASE("a digest tells where one part ends and the next begins") {
  std::set<Digest> all;
  all.insert(digest_of({"ab", "c"}));
  all.insert(digest_of({"a", "bc"}));
  all.insert(digest_of({"abc"}));
  all.insert(digest_of({"abc", ""}));
  CHECK(all.size() == 4);
  CHECK(digest_of({"ab", "c"}) == *all.find(digest_of({"ab", "c"})));
}

TEST_CASE("a batch with a sensitive envelope is not compressed, and the next one is again") {
  const std::string text(4000, 'x');
  const Delivery sensitive{.is_sensitive = true};
  BatchEncoder encoder;
  Compressor compressor(CompressionMode::kAlways, 1000);
  for (const bool is_sensitive : {false, true, false}) {
    for (int i = 0; i < 2; ++i) {
      Envelope envelope;
      envelope.service = "s";
      envelope.body = Slice::copy_of(text);
      if (is_sensitive && i == 0) envelope.delivery = &sensitive;
      encoder.add(envelope);
    }
    encoder.seal(&compressor);
    CHECK(encoder.shape().is_zstd == !is_sensitive);
  }
}

}  // namespace
}  // namespace mesh::wire
