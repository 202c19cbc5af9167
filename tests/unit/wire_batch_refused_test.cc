// What a decoder must not believe.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "common/base/limits.h"
#include "common/base/prng.h"
#include "common/wire/batch.h"
#include "common/wire/batch_layout.h"
#include "tests/unit/wire_batches.h"

namespace mesh::wire {
namespace {

TEST_CASE("a header that lies is refused by the rule that it breaks") {
  const std::vector<Slice> good = batch_of({"a", text_of(10'000), "b"});
  const auto changed = [&](size_t offset, char value) {
    return broken_rule(with(good, [&](std::string& first) { first[offset] = value; }));
  };
  REQUIRE(broken_rule(good) == "");
  CHECK(broken_rule({}) == "batch_header");
  CHECK(broken_rule({Slice()}) == "batch_header");
  CHECK(broken_rule(with(good, [](std::string& first) { first.resize(7); })) == "batch_header");
  CHECK(changed(0, 'N') == "batch_header");
  CHECK(changed(1, 2) == "batch_version");
  CHECK(changed(2, 2) == "batch_codec");
  CHECK(changed(2, 1) == "zstd_broken");
  CHECK(changed(3, 2) == "batch_flags");
  CHECK(broken_rule(with(good, [](std::string& first) { first = first.substr(0, 11), first[3] = 1; })) ==
        "batch_header");
  CHECK(changed(4, 1) == "batch_count");  // 259
  CHECK(changed(5, 0) == "batch_count");
  CHECK(changed(5, 2) == "batch_trailing");
  CHECK(changed(5, 4) == "envelope_truncated");
  CHECK(changed(7, 0) == "batch_frames");
  CHECK(changed(7, 2) == "batch_frames");
}

TEST_CASE("as many frames as a message may have are the most, even if the header says more") {
  std::vector<Slice> frames = batch_of({"a"});
  for (size_t i = 0; i < limits::frames_per_message_max; ++i) frames.push_back(Slice::copy_of("frame"));
  frames = with(frames, [](std::string& first) { first[7] = static_cast<char>(limits::frames_per_message_max); });
  CHECK(broken_rule(frames) == "batch_frames");
}

TEST_CASE("a batch cut off anywhere is refused, and what stood before the cut is still good") {
  const std::vector<std::string> bodies = {"first", text_of(300), "third"};
  const std::vector<Slice> good = batch_of(bodies);
  for (size_t size = 0; size < good[0].size(); ++size) {
    const Outcome outcome = decode(with(good, [&](std::string& first) { first.resize(size); }));
    CHECK(outcome.error.rule != "");
    CHECK(outcome.error.code == Code::kInvalid);
    REQUIRE(outcome.bodies.size() < bodies.size());
    for (size_t i = 0; i < outcome.bodies.size(); ++i) CHECK(outcome.bodies[i] == bodies[i]);
  }
}

TEST_CASE("an envelope that declares to be enormous is refused by its length alone") {
  const std::string huge("\xFF\xFF\xFF\xFF\x0F", 5);
  const auto frames = with(batch_of({"a"}), [&](std::string& first) { first.replace(kBatchHeaderBytes, 1, huge); });
  CHECK(broken_rule(frames) == "envelope_too_large");
}

TEST_CASE("a body that is not where or what its envelope says is refused") {
  std::vector<Slice> frames = batch_of({text_of(10'000), text_of(9'000)});
  std::swap(frames[1], frames[2]);
  CHECK(broken_rule(frames) == "body_size");

  frames = batch_of({text_of(10'000), text_of(9'000)});
  frames.pop_back();
  CHECK(broken_rule(with(frames, [](std::string& first) { first[7] = 1; })) == "body_missing");

  frames = batch_of({"a"});
  frames.push_back(Slice::copy_of("nobody's"));
  CHECK(broken_rule(with(frames, [](std::string& first) { first[7] = 1; })) == "batch_trailing");

  CHECK(broken_rule(with(batch_of({"abc"}), [](std::string& first) { first.pop_back(); })) == "body_missing");
}

TEST_CASE("a compressed body frame must hold just as many bytes as its envelope says") {
  Compressor always(CompressionMode::kAlways, kSlowLink);
  std::vector<Slice> frames = batch_of({text_of(20'000)}, &always);
  const std::vector<Slice> longer = batch_of({text_of(20'001)}, &always);
  const std::vector<Slice> shorter = batch_of({text_of(19'999)}, &always);
  REQUIRE(broken_rule(frames) == "");
  frames[1] = longer[1];
  CHECK(broken_rule(frames) == "zstd_too_large");
  frames[1] = shorter[1];
  CHECK(broken_rule(frames) == "body_size");
}

TEST_CASE("several envelopes may not carry more than a batch holds, however it is compressed") {
  Compressor always(CompressionMode::kAlways, kSlowLink);
  std::string text;  // compresses, but not like a bomb
  while (text.size() < 200'000) text += std::to_string(text.size() * text.size()) + " and so on; ";
  std::vector<Slice> large = batch_of({text}, &always);
  large = with(large, [](std::string& first) {  // without the time that compressing took
    first[3] = 0;
    first.resize(first.size() - kTimedBytes);
  });
  REQUIRE(large[1].size() < text.size() / 2);
  // Two batches of one large body each, made into one of two.
  std::vector<Slice> frames = {large[0], large[1], large[1]};
  frames = with(frames, [&](std::string& first) {
    first += std::string(large[0].text().substr(kBatchHeaderBytes));
    first[5] = 2;
    first[7] = 2;
  });
  const Outcome outcome = decode(frames);
  CHECK(outcome.error.rule == "batch_too_large");
  CHECK(outcome.error.code == Code::kTooLarge);

  std::string filler(limits::batch_bytes + kBatchHeaderBytes + 1, '\0');
  filler.replace(0, kBatchHeaderBytes, large[0].text().substr(0, kBatchHeaderBytes));
  CHECK(broken_rule({Slice::copy_of(filler), large[1]}) == "batch_too_large");
}

TEST_CASE("batches broken at random end in an error or in envelopes, never in anything else") {
  Prng prng(13);
  Compressor always(CompressionMode::kAlways, kSlowLink);
  const std::vector<Slice> plain = batch_of({"a", text_of(300), text_of(10'000), "b"});
  const std::vector<Slice> packed = batch_of({text_of(700), text_of(300), text_of(10'000), "b"}, &always);
  for (int i = 0; i < 20'000; ++i) {
    const std::vector<Slice> frames = with(i % 2 == 0 ? plain : packed, [&](std::string& first) {
      for (uint64_t flips = 1 + prng.below(4); flips > 0; --flips)
        first[prng.below(first.size())] = static_cast<char>(prng.next());
    });
    const Outcome outcome = decode(frames);
    CHECK(outcome.bodies.size() <= limits::batch_envelopes_max);
    if (!outcome.error.rule.empty()) CHECK_FALSE(outcome.error.text.empty());
  }
}

}  // namespace
}  // namespace mesh::wire
